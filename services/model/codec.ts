import { canonicalIp, formatCidr, type Ip, ipFromBytes, ipToBytes, parseCidr } from './address.ts';
import type { Delta, EntryDelta } from './delta.ts';
import {
  type Endpoint as EndpointProto,
  ServicePortChange,
  type ServicePortSpec as SpecProto,
  TrafficPolicy as TrafficPolicyProto,
} from './gen/octoplane/v1/rules.ts';
import { parseServicePortKey, type ServicePortKey } from './keys.ts';
import {
  compareEndpoints,
  type Endpoint,
  type EndpointId,
  type Entry,
  endpointFlags,
  type ServicePortSpec,
  type TrafficPolicy,
} from './rule-set.ts';

/** An entry on the wire that rules.proto does not allow. */
export class InvalidEntryError extends Error {
  override readonly name = 'InvalidEntryError';
  readonly key: string;
  constructor(key: string, message: string) {
    super(`${key}: ${message}`);
    this.key = key;
  }
}

export const deltaToProto = (delta: Delta): ServicePortChange[] =>
  Array.from(delta, ([key, entryDelta]) => entryDeltaToProto(key, entryDelta));

export function entryDeltaToProto(key: ServicePortKey, delta: EntryDelta): ServicePortChange {
  if (delta.t === 'removed') return ServicePortChange.create({ key, removed: true });
  return {
    key,
    removed: false,
    spec: delta.spec === null ? undefined : specToProto(delta.spec),
    upserted: delta.upserted.map(endpointToProto),
    removedEndpoints: delta.removed.map((id) => endpointToProto({ ...id, flags: 0 })),
  };
}

/** A whole entry, as a repair carries it. */
export const entryToProto = (entry: Entry): ServicePortChange =>
  entryDeltaToProto(entry.key, { t: 'changed', spec: entry.spec, upserted: entry.endpoints, removed: [] });

/** @throws InvalidEntryError for anything that is not in canonical form: nothing of it may reach a kernel. */
export function deltaFromProto(changes: readonly ServicePortChange[]): Delta {
  const delta = new Map<ServicePortKey, EntryDelta>();
  for (const change of changes) {
    const id = parseServicePortKey(change.key);
    if (!id) throw new InvalidEntryError(change.key, 'is not NAMESPACE/NAME:PORT/PROTOCOL');
    const key = change.key as ServicePortKey;
    if (delta.has(key)) throw new InvalidEntryError(key, 'is named twice in one frame');
    delta.set(key, entryDeltaFromProto(key, change));
  }
  return delta;
}

function entryDeltaFromProto(key: ServicePortKey, change: ServicePortChange): EntryDelta {
  if (change.removed) {
    if (change.spec || change.upserted.length > 0 || change.removedEndpoints.length > 0)
      throw new InvalidEntryError(key, 'is removed and changed at once');
    return { t: 'removed' };
  }
  const upserted = change.upserted.map((endpoint) => endpointFromProto(key, endpoint));
  for (const { flags } of upserted) if (!validFlags(flags)) throw new InvalidEntryError(key, `endpoint flags ${flags}`);
  const removed = change.removedEndpoints.map((endpoint): EndpointId => {
    const { ip, port } = endpointFromProto(key, endpoint);
    return { ip, port };
  });
  requireAscending(key, upserted);
  requireAscending(key, removed);
  return { t: 'changed', spec: change.spec ? specFromProto(key, change.spec) : null, upserted, removed };
}

const endpointToProto = (endpoint: Endpoint): EndpointProto => ({
  ip: Buffer.from(ipToBytes(endpoint.ip)),
  port: endpoint.port,
  flags: endpoint.flags,
});

function endpointFromProto(key: string, endpoint: EndpointProto): Endpoint {
  return { ip: ipOf(key, endpoint.ip), port: portOf(key, endpoint.port), flags: endpoint.flags };
}

const { cluster, local, terminating, draining } = endpointFlags;

function validFlags(flags: number): boolean {
  if (flags === draining) return true;
  return (flags & (cluster | local)) !== 0 && (flags & ~(cluster | local | terminating)) === 0;
}

function requireAscending(key: string, endpoints: readonly EndpointId[]): void {
  endpoints.forEach((endpoint, i) => {
    const previous = endpoints[i - 1];
    if (previous && compareEndpoints(previous, endpoint) >= 0)
      throw new InvalidEntryError(key, 'endpoints are not ascending');
  });
}

const specToProto = (spec: ServicePortSpec): SpecProto => ({
  clusterIps: spec.clusterIps.map(ipBuffer),
  externalIps: spec.externalIps.map(ipBuffer),
  loadBalancerIps: spec.loadBalancerIps.map(ipBuffer),
  nodePort: spec.nodePort,
  internalPolicy: policyToProto(spec.internalPolicy),
  externalPolicy: policyToProto(spec.externalPolicy),
  affinityTimeoutSeconds: spec.affinityTimeoutSeconds,
  sourceRanges: [...spec.sourceRanges],
  healthCheckNodePort: spec.healthCheckNodePort,
  usableFamilies: spec.usableFamilies,
});

const ipBuffer = (ip: Ip): Buffer => Buffer.from(ipToBytes(ip));

function specFromProto(key: string, spec: SpecProto): ServicePortSpec {
  if (spec.usableFamilies > 3) throw new InvalidEntryError(key, `usable families ${spec.usableFamilies}`);
  if (spec.affinityTimeoutSeconds > 86_400) throw new InvalidEntryError(key, 'affinity of more than a day');
  return {
    clusterIps: ipsOf(key, spec.clusterIps),
    externalIps: ipsOf(key, spec.externalIps),
    loadBalancerIps: ipsOf(key, spec.loadBalancerIps),
    nodePort: optionalPortOf(key, spec.nodePort),
    internalPolicy: policyOf(key, spec.internalPolicy),
    externalPolicy: policyOf(key, spec.externalPolicy),
    affinityTimeoutSeconds: spec.affinityTimeoutSeconds,
    sourceRanges: ascending(
      key,
      spec.sourceRanges.map((text) => cidrOf(key, text)),
    ),
    healthCheckNodePort: optionalPortOf(key, spec.healthCheckNodePort),
    usableFamilies: spec.usableFamilies,
  };
}

const ipsOf = (key: string, list: readonly Uint8Array[]): readonly Ip[] =>
  ascending(
    key,
    list.map((bytes) => ipOf(key, bytes)),
  );

function ipOf(key: string, bytes: Uint8Array): Ip {
  const ip = ipFromBytes(bytes);
  if (ip === null || canonicalIp(ip) !== ip)
    throw new InvalidEntryError(key, `${Buffer.from(bytes).toString('hex')} is not an IP address`);
  return ip;
}

function cidrOf(key: string, text: string): string {
  const cidr = parseCidr(text);
  if (!cidr || formatCidr(cidr) !== text) throw new InvalidEntryError(key, `source range ${text}`);
  return text;
}

/** Most lists of most Services are empty: those are one list. */
const nothing: readonly string[] = [];

function ascending(key: string, list: readonly string[]): readonly string[] {
  if (list.length === 0) return nothing;
  list.forEach((value, i) => {
    const previous = list[i - 1];
    if (previous !== undefined && previous >= value) throw new InvalidEntryError(key, `${value} is out of order`);
  });
  return list;
}

function portOf(key: string, port: number): number {
  if (port < 1 || port > 65_535) throw new InvalidEntryError(key, `port ${port}`);
  return port;
}

const optionalPortOf = (key: string, port: number): number => (port === 0 ? 0 : portOf(key, port));

const policyToProto = (policy: TrafficPolicy): TrafficPolicyProto =>
  policy === 'Local' ? TrafficPolicyProto.LOCAL : TrafficPolicyProto.CLUSTER;

function policyOf(key: string, policy: TrafficPolicyProto): TrafficPolicy {
  if (policy === TrafficPolicyProto.CLUSTER) return 'Cluster';
  if (policy === TrafficPolicyProto.LOCAL) return 'Local';
  throw new InvalidEntryError(key, `traffic policy ${policy}`);
}
