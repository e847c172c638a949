import { parseSelector, type Selector } from './selector.ts';
import { badRequest, invalid } from './status.ts';

/** What a list or watch asks for, checked by the rules of ValidateListOptions. */
export interface ListOptions {
  readonly watch: boolean;
  readonly selector: Selector;
  readonly selectorText: string;
  /** Null: not given, which for a list means the newest state. */
  readonly resourceVersion: number | null;
  readonly match: 'Exact' | 'NotOlderThan' | null;
  /** 0: none. */
  readonly limit: number;
  readonly continueToken: string;
  readonly timeoutSeconds: number | null;
  readonly bookmarks: boolean;
  readonly initialEvents: boolean;
}

const known = new Set([
  'watch',
  'labelSelector',
  'resourceVersion',
  'resourceVersionMatch',
  'limit',
  'continue',
  'timeoutSeconds',
  'allowWatchBookmarks',
  'sendInitialEvents',
]);

/**
 * @param complain what a real server would let pass and a client should not do
 * @throws StatusError
 */
export function readListOptions(
  query: URLSearchParams,
  features: { readonly watchList: boolean },
  complain: (what: string) => void,
): ListOptions {
  for (const name of new Set(query.keys())) {
    if (!known.has(name)) complain(`unknown query parameter ${name}`);
    if (query.getAll(name).length > 1) complain(`query parameter ${name} twice`);
    if (query.get(name) === '') complain(`query parameter ${name} is empty`);
  }
  const watch = flag(query, 'watch');
  const text = query.get('resourceVersion') ?? '';
  if (text !== '' && !/^(0|[1-9]\d*)$/.test(text)) throw badRequest(`Invalid value: "${text}": resource version`);
  const match = query.get('resourceVersionMatch');
  if (match !== null && match !== 'Exact' && match !== 'NotOlderThan')
    throw invalid(`resourceVersionMatch: Unsupported value: "${match}"`);
  const selectorText = query.get('labelSelector') ?? '';
  let selector: Selector;
  try {
    selector = parseSelector(selectorText);
  } catch (error) {
    throw badRequest(error instanceof Error ? error.message : String(error));
  }
  const options: ListOptions = {
    watch,
    selector,
    selectorText,
    resourceVersion: text === '' ? null : Number(text),
    match,
    limit: natural(query, 'limit') ?? 0,
    continueToken: query.get('continue') ?? '',
    timeoutSeconds: natural(query, 'timeoutSeconds'),
    bookmarks: flag(query, 'allowWatchBookmarks'),
    initialEvents: flag(query, 'sendInitialEvents'),
  };
  if (watch) checkWatch(options, query, features, complain);
  else checkList(options, query, complain);
  return options;
}

function checkWatch(
  options: ListOptions,
  query: URLSearchParams,
  features: { readonly watchList: boolean },
  complain: (what: string) => void,
): void {
  if (options.limit > 0 || options.continueToken !== '') complain('limit or continue on a watch');
  if (options.timeoutSeconds === null) complain('a watch without timeoutSeconds');
  if (!query.has('sendInitialEvents')) {
    if (options.match !== null)
      throw invalid(
        'resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided',
      );
    if (options.resourceVersion === null || options.resourceVersion === 0)
      complain('a watch from anywhere: events of what was listed come again');
    return;
  }
  if (!features.watchList)
    throw invalid(
      'sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled',
    );
  if (options.match !== 'NotOlderThan')
    throw invalid(
      'resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan',
    );
  if (options.initialEvents && !options.bookmarks) complain('initial events without bookmarks never end');
}

function checkList(options: ListOptions, query: URLSearchParams, complain: (what: string) => void): void {
  for (const name of ['allowWatchBookmarks', 'timeoutSeconds']) if (query.has(name)) complain(`${name} on a list`);
  if (query.has('sendInitialEvents'))
    throw invalid('sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list');
  if (options.match !== null && options.resourceVersion === null)
    throw invalid(
      'resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided',
    );
  if (options.match === 'Exact' && options.resourceVersion === 0)
    throw invalid('resourceVersionMatch: Forbidden: resourceVersionMatch "Exact" is forbidden for resourceVersion "0"');
  if (options.continueToken === '') return;
  if (options.match !== null)
    throw invalid('resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided');
  if (options.resourceVersion !== null)
    throw badRequest('specifying resource version is not allowed when using continue');
  if (options.limit === 0) complain('continue without limit asks for all of the rest at once');
}

function flag(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  if (value === null || value === 'false' || value === '0') return false;
  if (value === 'true' || value === '1') return true;
  throw badRequest(`${name}: "${value}" is not a boolean`);
}

function natural(query: URLSearchParams, name: string): number | null {
  const value = query.get(name);
  if (value === null) return null;
  if (!/^\d+$/.test(value)) throw badRequest(`${name}: "${value}" is not a number`);
  return Number(value);
}
