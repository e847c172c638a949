import { familyOf } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import { type Endpoint, endpointFlags, type TrafficPolicy } from '@octoplane/model/rule-set.ts';
import type { Window } from './layout.ts';

/**
 * The order in which a service port's endpoints lie in the array, so that each policy's choice is one stretch of it:
 * for each family, those for the Cluster policy alone, those for both, those for Local alone, then the draining ones,
 * which nobody chooses.
 */
export interface BackendSet {
  readonly ordered: readonly Endpoint[];
  /** Counted from the start of the set. */
  readonly windows: Readonly<Record<Family, Readonly<Record<TrafficPolicy, Window>>>>;
}

export function arrange(endpoints: readonly Endpoint[]): BackendSet {
  const sizes = [0, 0, 0, 0, 0, 0, 0, 0];
  let last = 0;
  let inOrder = true;
  for (const endpoint of endpoints) {
    const rank = rankOf(endpoint);
    sizes[rank] = (sizes[rank] ?? 0) + 1;
    inOrder &&= rank >= last;
    last = rank;
  }
  // Mostly all endpoints are of one rank, and nothing has to be moved.
  const ordered = inOrder ? endpoints : endpoints.toSorted((a, b) => rankOf(a) - rankOf(b));
  const [c4 = 0, b4 = 0, l4 = 0, d4 = 0, c6 = 0, b6 = 0, l6 = 0] = sizes;
  return { ordered, windows: { IPv4: windows(0, c4, b4, l4), IPv6: windows(c4 + b4 + l4 + d4, c6, b6, l6) } };
}

const windows = (start: number, cluster: number, both: number, local: number): Record<TrafficPolicy, Window> => ({
  Cluster: { start, count: cluster + both },
  Local: { start: start + cluster, count: both + local },
});

/** Ranks ascend through a set. */
export function rankOf({ ip, flags }: Pick<Endpoint, 'ip' | 'flags'>): number {
  const both = endpointFlags.cluster | endpointFlags.local;
  const chosen = flags & both;
  const rank = chosen === endpointFlags.cluster ? 0 : chosen === both ? 1 : chosen === endpointFlags.local ? 2 : 3;
  return (familyOf(ip) === 'IPv4' ? 0 : 4) + rank;
}

export const at = (window: Window, start: number): Window => ({ start: start + window.start, count: window.count });
