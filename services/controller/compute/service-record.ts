import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import { dependsOnZone, overlayNodes, type PreparedPort } from './prepare.ts';

/** What is remembered of a Service between two computations. */
export interface ServiceRecord {
  readonly keys: readonly ServicePortKey[];
  /** Nodes whose view may differ from their class's, known or not. */
  readonly nodes: ReadonlySet<NodeName>;
  /** Two zones may have different entries. */
  readonly zonal: boolean;
}

export const noRecord: ServiceRecord = { keys: [], nodes: new Set(), zonal: false };

/** Null for a Service without entries. */
export function recordOf(ports: ReadonlyMap<ServicePortKey, PreparedPort>): ServiceRecord | null {
  if (ports.size === 0) return null;
  let nodes: ReadonlySet<NodeName> = noRecord.nodes;
  let zonal = false;
  for (const port of ports.values()) {
    const own = overlayNodes(port);
    if (own.size > 0) nodes = nodes.size === 0 ? own : nodes.union(own);
    zonal ||= dependsOnZone(port);
  }
  return { keys: [...ports.keys()], nodes, zonal };
}
