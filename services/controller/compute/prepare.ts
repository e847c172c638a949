import { type Cidr, familyOf, formatCidr } from '@octoplane/model/address.ts';
import { type Family, type NodeName, type ServicePortKey, servicePortKey } from '@octoplane/model/keys.ts';
import type { EndpointSlice, Service, ServicePort, SliceEndpoint, SlicePort } from '@octoplane/model/objects.ts';
import { familyBit, type ServicePortSpec } from '@octoplane/model/rule-set.ts';
import { type Hints, hintsOf } from './topology.ts';

/** An endpoint that may serve, with the port that the service port's name stands for in its slice (P2). */
export interface Candidate {
  readonly endpoint: SliceEndpoint;
  readonly port: number;
}

/** Candidates of one family, which knows nothing of the other (P28). */
export interface FamilyCandidates {
  readonly family: Family;
  /** P15. */
  readonly ready: readonly Candidate[];
  /** Serving and terminating: for the fallback (P16), and to drain. */
  readonly terminating: readonly Candidate[];
  readonly hints: Hints;
}

/** A service port as far as it is the same for every node. */
export interface PreparedPort {
  readonly key: ServicePortKey;
  readonly spec: ServicePortSpec;
  /** Some frontend can lead to endpoints anywhere: internal Cluster policy, or any external address (P6 short-circuits Local). */
  readonly usesCluster: boolean;
  /** Some frontend, or the health check, asks for the endpoints of the node alone. */
  readonly usesLocal: boolean;
  readonly families: readonly FamilyCandidates[];
}

/** Service ports that get an entry. */
export function prepare(service: Service, slices: readonly EndpointSlice[]): readonly PreparedPort[] {
  const families = familiesOf(service);
  const usable = slices.filter((slice) => !slice.headless);
  return service.ports.flatMap((port) => {
    if (whyNoEntry(service, port) !== null) return [];
    const candidates = families.map((family) => inReach(service, family, port, usable));
    return [preparePort(service, port, candidates)];
  });
}

/** None for ExternalName, headless and foreign Services (P10, P41, P42), or without a frontend. Null: there is one. */
export function whyNoEntry(service: Service, port: ServicePort): NoEntry | null {
  if (service.type === 'ExternalName') return 'ExternalName';
  if (service.headless) return 'headless';
  if (service.foreignProxy) return 'foreign proxy';
  return familiesOf(service).length === 0 && port.nodePort === 0 ? 'no frontend' : null;
}

export type NoEntry = 'ExternalName' | 'headless' | 'foreign proxy' | 'no frontend';

/** Families of its addresses: endpoints of another are not reachable through them. */
export function familiesOf({ clusterIps, externalIps, loadBalancerIps }: Service): readonly Family[] {
  const ips = [...clusterIps, ...externalIps, ...loadBalancerIps];
  return (['IPv4', 'IPv6'] as const).filter((family) => ips.some((ip) => familyOf(ip) === family));
}

/** Serves, or still serves while it ends. */
export const mayServe = ({ ready, serving, terminating }: SliceEndpoint): boolean => ready || (serving && terminating);

/** The port that a service port's name stands for in a slice (P2). */
export const slicePortOf = (slice: EndpointSlice, { name, protocol }: ServicePort): SlicePort | undefined =>
  slice.ports.find((port) => port.name === name && port.protocol === protocol);

/** The nodes whose view may differ from that of other nodes in their zone. */
export function overlayNodes(port: PreparedPort): ReadonlySet<NodeName> {
  const nodes = new Set<NodeName>();
  for (const { ready, terminating, hints } of port.families) {
    if (port.usesCluster) for (const node of hints.nodes) nodes.add(node);
    if (!port.usesLocal) continue;
    for (const { endpoint } of ready) if (endpoint.node !== null) nodes.add(endpoint.node);
    for (const { endpoint } of terminating) if (endpoint.node !== null) nodes.add(endpoint.node);
  }
  return nodes;
}

/** May two zones have different endpoints? */
export const dependsOnZone = (port: PreparedPort): boolean =>
  port.usesCluster && port.families.some(({ hints }) => hints.everyZone);

function preparePort(service: Service, port: ServicePort, families: readonly FamilyCandidates[]): PreparedPort {
  const external = port.nodePort !== 0 || service.externalIps.length > 0 || service.loadBalancerIps.length > 0;
  const internal = service.clusterIps.length > 0;
  const spec: ServicePortSpec = {
    clusterIps: canonicalList(service.clusterIps),
    externalIps: canonicalList(service.externalIps),
    loadBalancerIps: canonicalList(service.loadBalancerIps),
    nodePort: port.nodePort,
    // What no frontend uses is written in one way only, so that it makes no difference.
    internalPolicy: internal ? service.internalTrafficPolicy : 'Cluster',
    externalPolicy: external ? service.externalTrafficPolicy : 'Cluster',
    affinityTimeoutSeconds: service.affinityTimeoutSeconds,
    sourceRanges: service.loadBalancerIps.length > 0 ? canonicalRanges(service.sourceRanges) : [],
    healthCheckNodePort: service.healthCheckNodePort,
    usableFamilies: families.reduce((sum, { family, ready, terminating }) => {
      return ready.length + terminating.length > 0 ? sum + familyBit(family) : sum;
    }, 0),
  };
  return {
    key: servicePortKey(service.name, port.port, port.protocol),
    spec,
    usesCluster: spec.internalPolicy === 'Cluster' || external,
    usesLocal: spec.internalPolicy === 'Local' || spec.externalPolicy === 'Local' || spec.healthCheckNodePort !== 0,
    families,
  };
}

/** Of an import that asks for locality, its own cluster's as long as one of them is ready. */
function inReach(
  { preferredCluster }: Service,
  family: Family,
  port: ServicePort,
  slices: readonly EndpointSlice[],
): FamilyCandidates {
  if (preferredCluster !== undefined) {
    const near = slices.filter(({ cluster }) => cluster === preferredCluster);
    const candidates = familyCandidates(family, port, near);
    if (candidates.ready.length > 0) return candidates;
  }
  return familyCandidates(family, port, slices);
}

function familyCandidates(family: Family, port: ServicePort, slices: readonly EndpointSlice[]): FamilyCandidates {
  const candidates: Candidate[] = [];
  for (const slice of slices) {
    if (slice.family !== family) continue;
    const slicePort = slicePortOf(slice, port);
    if (!slicePort) continue;
    for (const endpoint of slice.endpoints) if (mayServe(endpoint)) candidates.push({ endpoint, port: slicePort.port });
  }
  const unique = withoutDoubles(candidates);
  const ready = unique.filter(({ endpoint }) => endpoint.ready);
  return {
    family,
    ready,
    terminating: ready.length === unique.length ? [] : unique.filter(({ endpoint }) => !endpoint.ready),
    hints: hintsOf(ready),
  };
}

/**
 * Ascending by (ip, port). While the EndpointSlice controller moves an endpoint, two slices have it: the ready one counts,
 * then the one that names its node, then the one in the slice whose name comes first.
 */
function withoutDoubles(candidates: Candidate[]): readonly Candidate[] {
  candidates.sort(compareCandidates);
  return candidates.filter((candidate, i) => {
    const previous = candidates[i - 1];
    return previous?.endpoint.ip !== candidate.endpoint.ip || previous.port !== candidate.port;
  });
}

/** The sort is stable, and slices come in the order of their names. */
function compareCandidates(a: Candidate, b: Candidate): number {
  if (a.endpoint.ip !== b.endpoint.ip) return a.endpoint.ip < b.endpoint.ip ? -1 : 1;
  if (a.port !== b.port) return a.port - b.port;
  if (a.endpoint.ready !== b.endpoint.ready) return a.endpoint.ready ? -1 : 1;
  return Number(a.endpoint.node === null) - Number(b.endpoint.node === null);
}

const canonicalList = (list: readonly string[]): readonly string[] =>
  list.length < 2 ? list : [...new Set(list)].sort();

const canonicalRanges = (ranges: readonly Cidr[]): readonly string[] => canonicalList(ranges.map(formatCidr));
