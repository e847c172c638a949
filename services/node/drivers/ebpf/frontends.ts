import { familyOf, type Ip } from '@octoplane/model/address.ts';
import type { Family, Protocol, ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, familyBit, type ServicePortSpec, type TrafficPolicy } from '@octoplane/model/rule-set.ts';
import { anyAddress, type Endpoint, type FrontendValue, frontendFlags, frontendKinds } from './layout.ts';
import { at, type BackendSet } from './sets.ts';

/** An address, port and protocol where a service port answers. */
export interface Frontend extends Endpoint {
  /** Sum of frontendKinds: an address may be both a load balancer's and an external IP. */
  readonly kinds: number;
}

export const frontendId = ({ ip, port, protocol }: Endpoint): string => `${ip}|${port}|${protocol}`;

/** What a key ends with. Its form is vouched for by its type: matching it again for every use would cost a tenth of a cold load. */
export function portOf(key: ServicePortKey): { readonly port: number; readonly protocol: Protocol } {
  const slash = key.lastIndexOf('/');
  const port = Number(key.slice(key.lastIndexOf(':') + 1, slash));
  return { port, protocol: key.slice(slash + 1) as Protocol };
}

export function frontendsOf(key: ServicePortKey, spec: ServicePortSpec): readonly Frontend[] {
  const { port, protocol } = portOf(key);
  const frontends = spec.clusterIps.map((ip) => frontend(ip, port, protocol, frontendKinds.clusterIp));
  const add = (ips: readonly Ip[], kind: number) => {
    for (const ip of ips) {
      const at = frontends.findIndex((each) => each.ip === ip);
      const there = frontends[at];
      if (there) frontends[at] = { ...there, kinds: there.kinds | kind };
      else frontends.push(frontend(ip, port, protocol, kind));
    }
  };
  add(spec.externalIps, frontendKinds.externalIp);
  add(spec.loadBalancerIps, frontendKinds.loadBalancer);
  if (spec.nodePort !== 0)
    for (const family of familiesOf(spec))
      frontends.push(frontend(anyAddress(family), spec.nodePort, protocol, frontendKinds.nodePort));
  return frontends;
}

/** A Service has the families of its cluster IPs; one without any has both. */
export function familiesOf(spec: ServicePortSpec): readonly Family[] {
  const families = new Set(spec.clusterIps.map(familyOf));
  return families.size === 0 ? ['IPv4', 'IPv6'] : [...families].sort();
}

/** What the kernel holds for a frontend whose set lies at `start`. */
export function frontendValue(
  { ip, kinds }: Frontend,
  { spec }: Pick<Entry, 'spec'>,
  { windows }: BackendSet,
  place: Place,
): FrontendValue {
  const family = familyOf(ip);
  const external = (kinds & frontendKinds.clusterIp) === 0;
  const outsidePolicy: TrafficPolicy = external ? spec.externalPolicy : spec.internalPolicy;
  // Clients of the cluster reach every endpoint of an address for outside clients, whatever its policy (P6).
  const insidePolicy: TrafficPolicy = external ? 'Cluster' : spec.internalPolicy;
  const inside = at(windows[family][insidePolicy], place.start);
  const outside = at(windows[family][outsidePolicy], place.start);
  const elsewhere = (spec.usableFamilies & familyBit(family)) !== 0;
  return {
    service: place.service,
    inside,
    outside,
    affinitySeconds: spec.affinityTimeoutSeconds,
    flags:
      (elsewhere && inside.count === 0 ? frontendFlags.dropInside : 0) |
      (elsewhere && outside.count === 0 ? frontendFlags.dropOutside : 0) |
      (outsidePolicy === 'Cluster' ? frontendFlags.masquerade : 0) |
      (kinds & frontendKinds.loadBalancer && spec.sourceRanges.length > 0 ? frontendFlags.ranges : 0) |
      (place.masqueradeAll && !external ? frontendFlags.packets : 0),
    kinds,
    generation: place.generation,
  };
}

/** Of what lies where, all that a frontend's value depends on. */
export interface Place {
  readonly service: number;
  readonly start: number;
  readonly generation: number;
  readonly masqueradeAll: boolean;
}

const frontend = (ip: Ip, port: number, protocol: Protocol, kinds: number): Frontend => ({ ip, port, protocol, kinds });
