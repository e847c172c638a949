import { familyOf } from '@octoplane/model/address.ts';
import { type Family, parseServicePortKey } from '@octoplane/model/keys.ts';
import {
  type Endpoint,
  type Entry,
  endpointFlags,
  familyBit,
  type ServicePortSpec,
} from '@octoplane/model/rule-set.ts';
import { allFamilies, type Frontend, frontendsOf, type Places, usesCluster, usesLocal } from './frontends.ts';
import { effectiveRanges } from './layout.ts';

/**
 * What the kernel keeps of an entry: which families are usable only where a frontend has no endpoint, affinity only where one has;
 * no health check port, no draining endpoints (they have weight 0, as have others whose
 * connections have not ended yet), nothing of a family or a node port without an address, of an endpoint's flags those that a
 * frontend asks for, source ranges only beside a load balancer's address.
 */
export function visibleEntry(entry: Entry, places: Places): Entry | null {
  const id = parseServicePortKey(entry.key);
  if (id === null) return null;
  const frontends = [...frontendsOf(entry.spec, id.port, places)];
  if (frontends.length === 0) return null;
  const endpoints = visibleEndpoints(entry.endpoints, frontends);
  return { key: entry.key, spec: visibleSpec(entry.spec, frontends, endpoints), endpoints };
}

/** Does a frontend have endpoints for clients that it does not tell from others? */
function isServed({ family, policy }: Frontend, endpoints: readonly Endpoint[]): boolean {
  const flag = policy === 'Local' ? endpointFlags.local : endpointFlags.cluster;
  return endpoints.some(({ ip, flags }) => (flags & flag) !== 0 && familyOf(ip) === family);
}

/** The flags that frontends of a family ask for. */
export function flagsAskedFor(
  frontends: Iterable<Pick<Frontend, 'family' | 'kind' | 'policy'>>,
): Record<Family, number> {
  const masks: Record<Family, number> = { IPv4: 0, IPv6: 0 };
  for (const frontend of frontends) {
    if (usesCluster(frontend)) masks[frontend.family] |= endpointFlags.cluster;
    if (usesLocal(frontend)) masks[frontend.family] |= endpointFlags.local;
  }
  return masks;
}

function visibleSpec(
  spec: ServicePortSpec,
  frontends: readonly Frontend[],
  endpoints: readonly Endpoint[],
): ServicePortSpec {
  const ips = (wanted: Frontend['kind']) =>
    frontends
      .filter(({ kind }) => kind === wanted)
      .map(({ ip }) => ip)
      .sort();
  const clusterIps = ips('clusterIP');
  const loadBalancerIps = ips('loadBalancerIP');
  const external = frontends.some(({ kind }) => kind !== 'clusterIP');
  const bits = (chosen: readonly Frontend[]) => chosen.reduce((mask, { family }) => mask | familyBit(family), 0);
  const unserved = bits(frontends.filter((frontend) => !isServed(frontend, endpoints)));
  return {
    clusterIps,
    externalIps: ips('externalIP'),
    loadBalancerIps,
    nodePort: frontends.some(({ kind }) => kind === 'nodePort') ? spec.nodePort : 0,
    internalPolicy: clusterIps.length > 0 ? spec.internalPolicy : 'Cluster',
    externalPolicy: external ? spec.externalPolicy : 'Cluster',
    affinityTimeoutSeconds: endpoints.length > 0 ? spec.affinityTimeoutSeconds : 0,
    sourceRanges: allFamilies
      .filter((family) => loadBalancerIps.some((ip) => familyOf(ip) === family))
      .flatMap((family) => effectiveRanges(spec.sourceRanges, family))
      .sort(),
    healthCheckNodePort: 0,
    usableFamilies: (spec.usableFamilies & unserved) | (bits(frontends) & ~unserved),
  };
}

function visibleEndpoints(endpoints: readonly Endpoint[], frontends: readonly Frontend[]): readonly Endpoint[] {
  const masks = flagsAskedFor(frontends);
  const kept: Endpoint[] = [];
  for (const endpoint of endpoints) {
    const flags = endpoint.flags & masks[familyOf(endpoint.ip)];
    if (flags !== 0) kept.push(flags === endpoint.flags ? endpoint : { ...endpoint, flags });
  }
  return kept;
}
