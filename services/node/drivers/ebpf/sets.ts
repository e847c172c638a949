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
  const groups: Endpoint[][] = Array.from({ length: 8 }, () => []);
  for (const endpoint of endpoints) groups[rankOf(endpoint)]?.push(endpoint);
  const size = (rank: number): number => groups[rank]?.length ?? 0;
  const windowsFrom = (first: number, start: number): Record<TrafficPolicy, Window> => ({
    Cluster: { start, count: size(first) + size(first + 1) },
    Local: { start: start + size(first), count: size(first + 1) + size(first + 2) },
  });
  const ipv4Count = size(0) + size(1) + size(2) + size(3);
  return { ordered: groups.flat(), windows: { IPv4: windowsFrom(0, 0), IPv6: windowsFrom(4, ipv4Count) } };
}

/** Ranks ascend through a set. */
export function rankOf({ ip, flags }: Pick<Endpoint, 'ip' | 'flags'>): number {
  const both = endpointFlags.cluster | endpointFlags.local;
  const chosen = flags & both;
  const rank = chosen === endpointFlags.cluster ? 0 : chosen === both ? 1 : chosen === endpointFlags.local ? 2 : 3;
  return (familyOf(ip) === 'IPv4' ? 0 : 4) + rank;
}

export const at = (window: Window, start: number): Window => ({ start: start + window.start, count: window.count });
