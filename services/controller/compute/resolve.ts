import type { NodeName } from '@octoplane/model/keys.ts';
import type { EndpointSlice, Service, SliceEndpoint } from '@octoplane/model/objects.ts';
import {
  compareEndpoints,
  type Endpoint,
  type Entry,
  endpointFlags,
  endpointsEqual,
  specsEqual,
} from '@octoplane/model/rule-set.ts';
import { type Candidate, type FamilyCandidates, type PreparedPort, prepare } from './prepare.ts';
import { topologyMode, type Vantage, wasWithin, within } from './topology.ts';

/**
 * Who is chosen, on one node, for each policy. The rules are rows P13 to P20 of kube-proxy's behaviour (its topology.go):
 *
 *   CLUSTER      ready endpoints within the topology mode; with no ready endpoint at all, the serving and terminating ones
 *   LOCAL        ready endpoints on the node, hints aside; with none, the serving and terminating ones on the node
 *   DRAINING     serving and terminating endpoints that were in reach from here and that are chosen by neither
 */
export const resolve = (service: Service, slices: readonly EndpointSlice[], vantage: Vantage): readonly Entry[] =>
  prepare(service, slices).map((port) => resolvePort(port, vantage));

export function resolvePort(port: PreparedPort, vantage: Vantage): Entry {
  const endpoints = port.families.flatMap((family) => resolveFamily(port, family, vantage));
  // Families are ascending within themselves; together they are sorted by text.
  if (port.families.length > 1) endpoints.sort(compareEndpoints);
  return { key: port.key, spec: port.spec, endpoints };
}

const { cluster, local, terminating, draining } = endpointFlags;

function resolveFamily(port: PreparedPort, family: FamilyCandidates, vantage: Vantage): Endpoint[] {
  const mode = topologyMode(family.hints, vantage);
  const isHere = (endpoint: SliceEndpoint): boolean =>
    port.usesLocal && vantage.node !== null && endpoint.node === vantage.node;
  const someReady = family.ready.length > 0;
  const someReadyHere = port.usesLocal && family.ready.some(({ endpoint }) => isHere(endpoint));
  const endpoints: Endpoint[] = [];
  const add = ({ endpoint: { ip }, port: number }: Candidate, flags: number): void => {
    if (flags !== 0) endpoints.push({ ip, port: number, flags });
  };
  for (const candidate of family.ready) {
    const { endpoint } = candidate;
    const inReach = port.usesCluster && within(mode, endpoint, vantage);
    add(candidate, (inReach ? cluster : 0) | (isHere(endpoint) ? local : 0));
  }
  if (family.terminating.length === 0) return endpoints;
  for (const candidate of family.terminating) {
    const { endpoint } = candidate;
    const here = isHere(endpoint);
    const chosen = (port.usesCluster && !someReady ? cluster : 0) | (here && !someReadyHere ? local : 0);
    const drains = here || (port.usesCluster && wasWithin(mode, endpoint, vantage));
    add(candidate, chosen !== 0 ? chosen | terminating : drains ? draining : 0);
  }
  return endpoints.sort(compareEndpoints);
}

/**
 * `after`, made of the parts of `before` that it agrees with, down to the single endpoint: what did not change is the same
 * object. So memory is shared between views, equality is cheap, and a digest costs what changed.
 */
export function sharing(before: Entry | null, after: Entry): Entry {
  if (before === null || before === after) return after;
  const spec = specsEqual(before.spec, after.spec) ? before.spec : after.spec;
  const endpoints = endpointsEqual(before.endpoints, after.endpoints)
    ? before.endpoints
    : sharedEndpoints(before.endpoints, after.endpoints);
  return spec === before.spec && endpoints === before.endpoints ? before : { key: after.key, spec, endpoints };
}

function sharedEndpoints(before: readonly Endpoint[], after: readonly Endpoint[]): readonly Endpoint[] {
  let i = 0;
  return after.map((endpoint) => {
    let held = before[i];
    while (held && compareEndpoints(held, endpoint) < 0) held = before[++i];
    return held && held.ip === endpoint.ip && held.port === endpoint.port && held.flags === endpoint.flags
      ? held
      : endpoint;
  });
}

/** A view of nobody's node in the zone: that of a class. */
export const anywhereIn = (zone: string | null): Vantage => ({ zone, node: null });

export const onNode = (node: NodeName, zone: string | null): Vantage => ({ zone, node });
