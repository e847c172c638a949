/** Names kept; past this, all are let go, and what is in use stays with its users. */
const capacity = 100_000;

const known = new Map<string, string>();

/**
 * One string for all equal ones. Every endpoint names a node and a zone: at 1,000,000 endpoints, copies of these few names would
 * take more memory than the addresses.
 */
export function intern(text: string): string {
  const held = known.get(text);
  if (held !== undefined) return held;
  if (known.size >= capacity) known.clear();
  known.set(text, text);
  return text;
}

const knownLists = new Map<string, readonly unknown[]>();

/** The same for short lists, which are equal where `key` is: the ports of a slice, the hints of an endpoint. */
export function internList<T>(key: string, list: readonly T[]): readonly T[] {
  const held = knownLists.get(key);
  // Equal keys are of equal lists, and so of the same type.
  if (held !== undefined) return held as readonly T[];
  if (knownLists.size >= capacity) knownLists.clear();
  // Without the room that a list which has grown keeps for more.
  const exact = list.slice();
  knownLists.set(key, exact);
  return exact;
}
