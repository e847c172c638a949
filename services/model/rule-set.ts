import type { Ip } from './address.ts';
import type { Family, ServicePortKey } from './keys.ts';

/**
 * What one node must have in its kernel: a map from service port to entry. The meaning of every field, the canonical form and
 * the identity of an endpoint are specified in proto/octoplane/v1/rules.proto; these types are that form in memory.
 *
 * Entries are immutable and shared: two rule sets that agree on a service port may hold the very same object, so
 * `===` is a sound (not complete) test for equality.
 */
export type RuleSet = ReadonlyMap<ServicePortKey, Entry>;

export interface Entry {
  readonly key: ServicePortKey;
  readonly spec: ServicePortSpec;
  /** Ascending by (ip, port), without duplicates. */
  readonly endpoints: readonly Endpoint[];
}

export type TrafficPolicy = 'Cluster' | 'Local';

/** Lists are ascending, without duplicates. */
export interface ServicePortSpec {
  readonly clusterIps: readonly Ip[];
  readonly externalIps: readonly Ip[];
  readonly loadBalancerIps: readonly Ip[];
  /** 0: none. */
  readonly nodePort: number;
  readonly internalPolicy: TrafficPolicy;
  readonly externalPolicy: TrafficPolicy;
  /** 0: none. */
  readonly affinityTimeoutSeconds: number;
  /** "address/length". */
  readonly sourceRanges: readonly string[];
  /** 0: none. */
  readonly healthCheckNodePort: number;
  /** Sum of familyBit(...) over families with a usable endpoint somewhere in the cluster. */
  readonly usableFamilies: number;
}

export interface Endpoint {
  readonly ip: Ip;
  readonly port: number;
  /** Sum of endpointFlags. Never 0. */
  readonly flags: number;
}

export const endpointFlags = {
  /** Chosen for the Cluster policy on this node. */
  cluster: 1,
  /** Chosen for the Local policy on this node. */
  local: 2,
  /** Chosen although terminating (KEP-1669). */
  terminating: 4,
  /** Not for new connections; excludes cluster and local. */
  draining: 8,
} as const;

export const familyBit = (family: Family): number => (family === 'IPv4' ? 1 : 2);

export const emptyRuleSet: RuleSet = new Map();

export function compareEndpoints(a: EndpointId, b: EndpointId): number {
  if (a.ip !== b.ip) return a.ip < b.ip ? -1 : 1;
  return a.port - b.port;
}

export type EndpointId = Pick<Endpoint, 'ip' | 'port'>;

/** The first index whose endpoint does not come before `id`. Binary: endpoints ascend. */
export function lowerBound(endpoints: readonly Endpoint[], id: EndpointId): number {
  let low = 0;
  let high = endpoints.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const endpoint = endpoints[middle];
    if (endpoint !== undefined && compareEndpoints(endpoint, id) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

const same = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((value, i) => value === b[i]);

export function specsEqual(a: ServicePortSpec, b: ServicePortSpec): boolean {
  return (
    a === b ||
    (a.nodePort === b.nodePort &&
      a.internalPolicy === b.internalPolicy &&
      a.externalPolicy === b.externalPolicy &&
      a.affinityTimeoutSeconds === b.affinityTimeoutSeconds &&
      a.healthCheckNodePort === b.healthCheckNodePort &&
      a.usableFamilies === b.usableFamilies &&
      same(a.clusterIps, b.clusterIps) &&
      same(a.externalIps, b.externalIps) &&
      same(a.loadBalancerIps, b.loadBalancerIps) &&
      same(a.sourceRanges, b.sourceRanges))
  );
}

export const endpointsEqual = (a: readonly Endpoint[], b: readonly Endpoint[]): boolean =>
  a === b ||
  (a.length === b.length &&
    a.every((endpoint, i) => {
      const other = b[i];
      return (
        endpoint === other ||
        (other !== undefined &&
          endpoint.ip === other.ip &&
          endpoint.port === other.port &&
          endpoint.flags === other.flags)
      );
    }));

export const entriesEqual = (a: Entry | null, b: Entry | null): boolean =>
  a === b ||
  (a !== null &&
    b !== null &&
    a.key === b.key &&
    specsEqual(a.spec, b.spec) &&
    endpointsEqual(a.endpoints, b.endpoints));
