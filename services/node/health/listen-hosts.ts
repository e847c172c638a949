import { networkInterfaces } from 'node:os';
import { canonicalIp, cidrContains, type Ip } from '@octoplane/model/address.ts';
import type { NodePortAddresses } from '../drivers/driver.ts';

/**
 * Where health check node ports listen: on the addresses that node ports answer on (P24), or on any. kube-proxy too listens
 * on any where it finds none, because a load balancer that finds no answer takes the node out.
 */
export function listenHosts(addresses: NodePortAddresses, nodeAddresses: readonly Ip[]): readonly string[] {
  if (addresses.t === 'primary' && nodeAddresses.length > 0) return nodeAddresses;
  if (addresses.t !== 'cidrs') return ['::'];
  const own = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .map(({ address }) => canonicalIp(address))
    .filter((ip): ip is Ip => ip !== null && addresses.cidrs.some((cidr) => cidrContains(cidr, ip)));
  return own.length > 0 ? own : ['::'];
}
