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
