import type { NodeName } from '@octoplane/model/keys.ts';
import type { SliceEndpoint } from '@octoplane/model/objects.ts';

/** From where a rule set is looked at. `node` null: any node of the zone that hosts nothing and that no hint names. */
export interface Vantage {
  readonly zone: string | null;
  readonly node: NodeName | null;
}

/**
 * Which ready endpoints the Cluster policy may choose (P17 to P19). Hints are the EndpointSlice controller's decision, and
 * a proxy follows them only when they are complete: a single ready endpoint without a hint says that the controller has not caught up.
 */
export type TopologyMode = 'all' | 'zone' | 'node';

/** What the ready endpoints of one service port and family say, whoever asks. */
export interface Hints {
  /** Every ready endpoint has one, and there is a ready endpoint. */
  readonly everyZone: boolean;
  readonly everyNode: boolean;
  readonly zones: ReadonlySet<string>;
  readonly nodes: ReadonlySet<NodeName>;
}

const noNames: ReadonlySet<never> = new Set();

const noHints: Hints = { everyZone: false, everyNode: false, zones: noNames, nodes: noNames };

/** Sets are filled only where they can decide something. */
export function hintsOf(ready: readonly { readonly endpoint: SliceEndpoint }[]): Hints {
  if (ready.length === 0) return noHints;
  const everyZone = ready.every(({ endpoint }) => endpoint.zoneHints.length > 0);
  const everyNode = ready.every(({ endpoint }) => endpoint.nodeHints.length > 0);
  if (!everyZone && !everyNode) return noHints;
  return {
    everyZone,
    everyNode,
    zones: everyZone ? new Set(ready.flatMap(({ endpoint }) => endpoint.zoneHints)) : noNames,
    nodes: everyNode ? new Set(ready.flatMap(({ endpoint }) => endpoint.nodeHints)) : noNames,
  };
}

/** KEP-3015, KEP-4444: the node's own endpoints, otherwise the zone's, otherwise all. */
export function topologyMode(hints: Hints, vantage: Vantage): TopologyMode {
  if (hints.everyNode && vantage.node !== null && hints.nodes.has(vantage.node)) return 'node';
  if (hints.everyZone && vantage.zone !== null && hints.zones.has(vantage.zone)) return 'zone';
  return 'all';
}

/** Is a ready endpoint within the mode? */
export function within(mode: TopologyMode, endpoint: SliceEndpoint, vantage: Vantage): boolean {
  switch (mode) {
    case 'all':
      return true;
    case 'zone':
      return vantage.zone !== null && endpoint.zoneHints.includes(vantage.zone);
    case 'node':
      return vantage.node !== null && endpoint.nodeHints.includes(vantage.node);
  }
}

/** Would an endpoint that has lost its hints (the controller hints ready ones only) have been within the mode? By where it runs. */
export function wasWithin(mode: TopologyMode, endpoint: SliceEndpoint, vantage: Vantage): boolean {
  switch (mode) {
    case 'all':
      return true;
    case 'zone':
      return endpoint.zoneHints.length > 0 ? within(mode, endpoint, vantage) : endpoint.zone === vantage.zone;
    case 'node':
      return endpoint.nodeHints.length > 0 ? within(mode, endpoint, vantage) : endpoint.node === vantage.node;
  }
}
