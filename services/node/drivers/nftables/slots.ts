import { type Endpoint, type EndpointId, endpointFlags } from '@octoplane/model/rule-set.ts';

/** The endpoints of one list by index: a frontend with three endpoints has the indexes 0, 1 and 2. */
export type Slots = readonly Endpoint[];

export const noSlots: Slots = [];

/**
 * Where the endpoints of the next state go, so that as few indexes as possible change: those that stay keep theirs, new ones take
 * the place of those that left, and what is then still empty is filled from the end. Changing one of 5,000 endpoints writes at most
 * two elements.
 */
export function assignSlots(held: Slots, wanted: readonly Endpoint[]): Slots {
  if (held.length === 0) return wanted.length === 0 ? noSlots : wanted;
  const missing = new Map<string, Endpoint>();
  for (const endpoint of wanted) missing.set(endpointName(endpoint), endpoint);
  const slots: (Endpoint | null)[] = held.map((endpoint) => {
    const id = endpointName(endpoint);
    const staying = missing.get(id) ?? null;
    missing.delete(id);
    return staying;
  });
  const coming = [...missing.values()];
  let next = 0;
  for (let i = 0; i < slots.length && next < coming.length; i++) {
    if (slots[i] === null) slots[i] = coming[next++] ?? null;
  }
  slots.push(...coming.slice(next));
  return compacted(slots);
}

/** Moves the last ones into the holes. */
function compacted(slots: (Endpoint | null)[]): Endpoint[] {
  let end = slots.length;
  for (let i = 0; i < end; i++) {
    while (end > i && slots[end - 1] === null) end--;
    if (i < end && slots[i] === null) slots[i] = slots[--end] ?? null;
  }
  return slots.slice(0, end).filter((endpoint) => endpoint !== null);
}

export const endpointName = (endpoint: EndpointId): string => `${endpoint.ip} ${endpoint.port}`;

export const sameEndpoint = (a: EndpointId | undefined, b: EndpointId | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && a.ip === b.ip && a.port === b.port);

export const inCluster = (endpoint: Endpoint): boolean => (endpoint.flags & endpointFlags.cluster) !== 0;
export const inLocal = (endpoint: Endpoint): boolean => (endpoint.flags & endpointFlags.local) !== 0;
