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
import { type FamilyCandidates, type PreparedPort, prepare } from './prepare.ts';
import { type TopologyMode, topologyMode, type Vantage, wasWithin, within } from './topology.ts';

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
  const situation = situationOf(port, family, vantage);
  const endpoints: Endpoint[] = [];
  for (const candidates of [family.ready, family.terminating]) {
    for (const { endpoint, port: number } of candidates) {
      const flags = flagsOf(endpoint, situation);
      if (flags !== 0) endpoints.push({ ip: endpoint.ip, port: number, flags });
    }
  }
  return family.terminating.length === 0 ? endpoints : endpoints.sort(compareEndpoints);
}

/** What decides about the candidates of one family, looked at from one place. explain.ts puts the same into words. */
export interface Situation {
  readonly mode: TopologyMode;
  readonly vantage: Vantage;
  readonly usesCluster: boolean;
  readonly usesLocal: boolean;
  readonly someReady: boolean;
  readonly someReadyHere: boolean;
}

export function situationOf(port: PreparedPort, family: FamilyCandidates, vantage: Vantage): Situation {
  const { usesCluster, usesLocal } = port;
  return {
    mode: topologyMode(family.hints, vantage),
    vantage,
    usesCluster,
    usesLocal,
    someReady: family.ready.length > 0,
    someReadyHere: usesLocal && family.ready.some(({ endpoint }) => isHere(endpoint, vantage)),
  };
}

export const isHere = (endpoint: SliceEndpoint, vantage: Vantage): boolean =>
  vantage.node !== null && endpoint.node === vantage.node;

/** endpointFlags of a candidate; 0: it has no business on this node. */
export function flagsOf(endpoint: SliceEndpoint, situation: Situation): number {
  const { mode, vantage, usesCluster, usesLocal, someReady, someReadyHere } = situation;
  const here = usesLocal && isHere(endpoint, vantage);
  if (endpoint.ready) return (usesCluster && within(mode, endpoint, vantage) ? cluster : 0) | (here ? local : 0);
  const chosen = (usesCluster && !someReady ? cluster : 0) | (here && !someReadyHere ? local : 0);
  if (chosen !== 0) return chosen | terminating;
  return here || (usesCluster && wasWithin(mode, endpoint, vantage)) ? draining : 0;
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
