import { familyOf } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import {
  type Endpoint,
  type Entry,
  endpointFlags,
  familyBit,
  type ServicePortSpec,
} from '@octoplane/model/rule-set.ts';
import { type Frontend, frontendsOf, usesCluster, usesLocal } from './frontends.ts';

/**
 * What the chains keep of an entry: no health check port, no draining endpoints, nothing of a family without a frontend, of
 * an endpoint's flags those that a frontend asks for. `families` are those that this machine has iptables for.
 */
export function visibleEntry(entry: Entry, families: readonly Family[]): Entry | null {
  const masks: Record<Family, number> = { IPv4: 0, IPv6: 0 };
  const frontends: Frontend[] = [];
  let present = 0;
  let ranged = 0;
  for (const family of families) {
    for (const frontend of frontendsOf(entry.spec, family)) {
      frontends.push(frontend);
      present |= familyBit(family);
      if (frontend.kind === 'loadBalancerIP') ranged |= familyBit(family);
      if (usesCluster(frontend)) masks[family] |= endpointFlags.cluster;
      if (usesLocal(frontend)) masks[family] |= endpointFlags.local;
    }
  }
  if (frontends.length === 0) return null;
  return {
    key: entry.key,
    spec: visibleSpec(entry.spec, frontends, present, ranged),
    endpoints: visibleEndpoints(entry.endpoints, masks),
  };
}

function visibleSpec(
  spec: ServicePortSpec,
  frontends: readonly Frontend[],
  present: number,
  ranged: number,
): ServicePortSpec {
  const ips = (wanted: Frontend['kind']) =>
    frontends.flatMap(({ kind, ip }) => (kind === wanted && ip !== null ? [ip] : [])).sort();
  const has = (mask: number, ip: string) => (mask & familyBit(familyOf(ip))) !== 0;
  const clusterIps = ips('clusterIP');
  const external = frontends.some(({ kind }) => kind !== 'clusterIP');
  return {
    clusterIps,
    externalIps: ips('externalIP'),
    loadBalancerIps: ips('loadBalancerIP'),
    nodePort: frontends.some(({ kind }) => kind === 'nodePort') ? spec.nodePort : 0,
    internalPolicy: clusterIps.length > 0 ? spec.internalPolicy : 'Cluster',
    externalPolicy: external ? spec.externalPolicy : 'Cluster',
    affinityTimeoutSeconds: spec.affinityTimeoutSeconds,
    sourceRanges: spec.sourceRanges.filter((range) => has(ranged, range)),
    healthCheckNodePort: 0,
    usableFamilies: spec.usableFamilies & present,
  };
}

function visibleEndpoints(endpoints: readonly Endpoint[], masks: Record<Family, number>): readonly Endpoint[] {
  const kept: Endpoint[] = [];
  for (const endpoint of endpoints) {
    const flags = endpoint.flags & masks[familyOf(endpoint.ip)];
    if (flags === endpoint.flags) kept.push(endpoint);
    else if (flags !== 0) kept.push({ ...endpoint, flags });
  }
  return kept.length === endpoints.length && kept.every((endpoint, i) => endpoint === endpoints[i]) ? endpoints : kept;
}
