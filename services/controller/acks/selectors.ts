import { type NodeRecord, stateOf } from './node-record.ts';

export class SelectorError extends Error {
  override readonly name = 'SelectorError';
}

const states = ['current', 'late', 'refusing', 'disconnected'];

type Selects = (record: NodeRecord) => boolean;

/** A Node object of which no daemon has connected. */
export interface Unseen {
  readonly name: string;
  readonly zone: string | null;
}

export interface NodeSelection {
  readonly matches: Selects;
  /** Driver and state of a daemon that has never connected are not known, and it matches no selector of those. */
  matchesUnseen(node: Unseen): boolean;
  /** Asked for by name: they count even when nobody has heard of them. */
  readonly names: readonly string[];
}

/**
 * Node selectors of admin.proto: names, zone=ZONE, driver=NAME, state=STATE. Several of one kind are alternatives, and kinds
 * narrow one another: `zone=a zone=b state=late` are the late nodes of both zones. None: all nodes.
 * @throws SelectorError
 */
export function parseSelectors(selectors: readonly string[]): NodeSelection {
  const byKind = new Map<string, Set<string>>();
  for (const selector of selectors) {
    const [kind, value] = partsOf(selector);
    if (kind === 'state' && !states.includes(value))
      throw new SelectorError(`${selector}: the states are ${states.join(', ')}`);
    byKind.set(kind, (byKind.get(kind) ?? new Set()).add(value));
  }
  const tests = Array.from(byKind, ([kind, values]): Selects => {
    const read = valueOfKind[kind];
    if (!read) throw new SelectorError(`${kind}=...: selectors are names, zone=, driver= and state=`);
    return (record) => values.has(read(record));
  });
  return {
    matches: (record) => tests.every((test) => test(record)),
    matchesUnseen({ name, zone }) {
      const known: Readonly<Record<string, string>> = { name, zone: zone ?? '-' };
      return [...byKind].every(([kind, values]) => values.has(known[kind] ?? ''));
    },
    names: [...(byKind.get('name') ?? [])],
  };
}

function partsOf(selector: string): readonly [kind: string, value: string] {
  const equals = selector.indexOf('=');
  return equals < 0 ? ['name', selector] : [selector.slice(0, equals), selector.slice(equals + 1)];
}

const valueOfKind: Readonly<Record<string, (record: NodeRecord) => string>> = {
  name: ({ name }) => name,
  zone: ({ residences, zone }) => residences.at(-1)?.id ?? zone,
  driver: ({ driver }) => driver,
  state: stateOf,
};
