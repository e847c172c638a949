import type { ListOptions } from './options.ts';
import { apiVersionOf } from './resources.ts';
import { badRequest, expired, StatusError } from './status.ts';
import type { Collection, Store, Stored } from './store.ts';

/** Where a list goes on. Revision -1: with what is there by then. */
interface Continuation {
  readonly v: 'meta.k8s.io/v1';
  readonly rv: number;
  readonly start: string;
}

/** One page, as an API server answers it. @throws StatusError */
export function listPage(store: Store, collection: Collection, namespace: string, options: ListOptions): Buffer {
  const from = options.continueToken === '' ? null : readToken(options.continueToken);
  const at = revisionOf(store, options, from);
  const matching = select(at === store.revision ? collection.all() : collection.at(at), namespace, options);
  const first = from === null ? 0 : indexOf(matching, from.start);
  // Served from the watch cache, which knows no pages.
  const limit = options.resourceVersion === 0 || options.limit === 0 ? matching.length : options.limit;
  const page = matching.slice(first, first + limit);
  const next = matching[first + limit];
  const metadata = {
    resourceVersion: String(at),
    ...(next ? { continue: tokenOf({ v: 'meta.k8s.io/v1', rv: at, start: next.key }) } : {}),
    ...(next && options.selectorText === '' ? { remainingItemCount: matching.length - first - limit } : {}),
  };
  return listJson(collection, metadata, page);
}

const selections = new WeakMap<readonly Stored[], Map<string, readonly Stored[]>>();

/** Remembered for as long as the snapshot is: a list of many pages selects once. */
function select(snapshot: readonly Stored[], namespace: string, options: ListOptions): readonly Stored[] {
  const known = selections.get(snapshot) ?? new Map<string, readonly Stored[]>();
  selections.set(snapshot, known);
  const name = `${namespace}/${options.selectorText}`;
  const selected =
    known.get(name) ??
    snapshot.filter(
      (stored) => (namespace === '' || stored.namespace === namespace) && options.selector(stored.labels),
    );
  known.set(name, selected);
  return selected;
}

/** Of the first whose key is no less. */
function indexOf(sorted: readonly Stored[], key: string): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle]?.key ?? '') < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

function revisionOf(store: Store, options: ListOptions, from: Continuation | null): number {
  if (from !== null) {
    if (from.rv === -1) return store.revision;
    if (from.rv >= store.compactedTo) return from.rv;
    throw new StatusError(
      410,
      'Expired',
      'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results.',
      { continueToken: tokenOf({ ...from, rv: -1 }) },
    );
  }
  const { resourceVersion, match } = options;
  if (resourceVersion === null || resourceVersion === 0) return store.revision;
  if (resourceVersion > store.revision) throw tooLarge(resourceVersion, store.revision);
  if (match !== 'Exact') return store.revision;
  if (resourceVersion < store.compactedTo) throw expired(resourceVersion, store.compactedTo);
  return resourceVersion;
}

export const tooLarge = (wanted: number, current: number): StatusError =>
  new StatusError(504, 'Timeout', `Timeout: Too large resource version: ${wanted}, current: ${current}`, {
    retryAfterSeconds: 1,
  });

/** Items of a list do not say what they are: the list does. */
function listJson(collection: Collection, metadata: object, page: readonly Stored[]): Buffer {
  const { kind } = collection.resource;
  const head = { kind: `${kind}List`, apiVersion: apiVersionOf(collection.resource), metadata };
  const open = `${JSON.stringify(head).slice(0, -1)},"items":[`;
  const parts: Buffer[] = [Buffer.from(open)];
  const type = Buffer.from(JSON.stringify({ apiVersion: head.apiVersion, kind }).slice(0, -1));
  page.forEach((stored, i) => {
    parts.push(Buffer.from(i === 0 ? '{' : ',{'), stored.json.subarray(type.length + 1));
  });
  parts.push(Buffer.from(']}\n'));
  return Buffer.concat(parts);
}

const tokenOf = (continuation: Continuation): string => Buffer.from(JSON.stringify(continuation)).toString('base64url');

function readToken(token: string): Continuation {
  try {
    const value = JSON.parse(Buffer.from(token, 'base64url').toString()) as Partial<Continuation>;
    if (value.v === 'meta.k8s.io/v1' && typeof value.rv === 'number' && typeof value.start === 'string')
      return { v: value.v, rv: value.rv, start: value.start };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw badRequest('continue key is not valid');
}
