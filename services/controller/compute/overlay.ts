import type { NodeName } from '@octoplane/model/keys.ts';
import {
  compareEndpoints,
  type Endpoint,
  type EndpointId,
  type Entry,
  endpointFlags,
  lowerBound,
} from '@octoplane/model/rule-set.ts';
import type { Candidate, PreparedPort } from './prepare.ts';
import { resolvePort, sharing } from './resolve.ts';
import { topologyMode, type Vantage } from './topology.ts';

const { cluster, local, terminating, draining } = endpointFlags;

/** Candidates by the node they run on, for the Local policies of one service port. Built once for all nodes. */
export type LocalCandidates = ReadonlyMap<NodeName, readonly Candidate[]>;

export function localCandidates(port: PreparedPort): LocalCandidates {
  const byNode = new Map<NodeName, Candidate[]>();
  if (!port.usesLocal) return byNode;
  for (const { ready, terminating: leaving } of port.families) {
    for (const list of [ready, leaving]) {
      for (const candidate of list) {
        const { node } = candidate.endpoint;
        if (node === null) continue;
        const own = byNode.get(node);
        if (own) own.push(candidate);
        else byNode.set(node, [candidate]);
      }
    }
  }
  return byNode;
}

/**
 * The entry of one node, made of its class's. A Service with external Local policy and an endpoint on each of a thousand nodes has a
 * thousand such entries of a thousand endpoints, which differ from the class in one each: so what is local is laid over
 * the class's endpoints, and the answer shares the rest with it. It is the class's entry itself where nothing differs.
 *
 * The law (compute.test.ts): it equals resolvePort(port, vantage).
 */
export function overlayEntry(port: PreparedPort, ofClass: Entry, locals: LocalCandidates, vantage: Vantage): Entry {
  const isNamed = port.usesCluster && port.families.some(({ hints }) => topologyMode(hints, vantage) === 'node');
  if (isNamed) return sharing(ofClass, resolvePort(port, vantage));
  const own = vantage.node === null ? undefined : locals.get(vantage.node);
  if (own === undefined) return ofClass;
  const patches = own.map((candidate) => localEndpoint(candidate, own, ofClass)).sort(compareEndpoints);
  return { ...ofClass, endpoints: laidOver(ofClass.endpoints, patches) };
}

/** What the node's own endpoint is, by what it is in the class: CLUSTER stays, LOCAL and DRAINING are added. */
function localEndpoint({ endpoint, port }: Candidate, own: readonly Candidate[], ofClass: Entry): Endpoint {
  const { ip } = endpoint;
  const inClass = (flagsAt(ofClass.endpoints, { ip, port }) ?? 0) & ~draining;
  if (endpoint.ready) return { ip, port, flags: inClass | local };
  const family = ip.includes(':');
  const readyHere = own.some((other) => other.endpoint.ready && other.endpoint.ip.includes(':') === family);
  if (!readyHere) return { ip, port, flags: (inClass & cluster) | local | terminating };
  return { ip, port, flags: inClass === 0 ? draining : inClass };
}

function flagsAt(endpoints: readonly Endpoint[], id: EndpointId): number | null {
  const endpoint = endpoints[lowerBound(endpoints, id)];
  return endpoint && compareEndpoints(endpoint, id) === 0 ? endpoint.flags : null;
}

/** Both ascending; a patch takes the place of the endpoint with its address and port. */
function laidOver(endpoints: readonly Endpoint[], patches: readonly Endpoint[]): readonly Endpoint[] {
  const result = endpoints.slice();
  // From the end, so that an insertion moves nothing that is still to be found.
  for (const patch of patches.toReversed()) {
    const at = lowerBound(endpoints, patch);
    const replaced = endpoints[at];
    const isThere = replaced !== undefined && compareEndpoints(replaced, patch) === 0;
    if (!isThere) result.splice(at, 0, patch);
    else if (replaced.flags !== patch.flags) result[at] = patch;
  }
  return result;
}
