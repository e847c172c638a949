import { readFileSync } from 'node:fs';
import { cidrContains, familyOf, type Ip } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import type { DriverOptions, NodePortAddresses } from '../driver.ts';
import type { NodeRole } from './addresses.ts';
import type { Device } from './devices.ts';

/** Where node ports answer (P24). Loopback is left alone (P25), unless a range names it: then for the node's own processes. */
export function nodePortRoles(
  devices: readonly Device[],
  wanted: NodePortAddresses,
  primary: readonly Ip[],
): ReadonlyMap<Ip, NodeRole> {
  const roles = new Map<Ip, NodeRole>();
  for (const { addresses } of devices)
    for (const ip of addresses) {
      const accepted =
        (wanted.t === 'all' && !isLoopback(ip)) ||
        (wanted.t === 'primary' && primary.includes(ip)) ||
        (wanted.t === 'cidrs' && wanted.cidrs.some((cidr) => cidrContains(cidr, ip)));
      if (accepted) roles.set(ip, isLoopback(ip) ? 'loopback' : 'node');
    }
  return roles;
}

/** One address of each family: those the user names, otherwise the first of the device of the default route. */
export function primaryAddresses(devices: readonly Device[], named: readonly Ip[]): readonly Ip[] {
  const families: readonly Family[] = ['IPv4', 'IPv6'];
  return families.flatMap((family) => {
    const own = named.find((ip) => familyOf(ip) === family);
    if (own !== undefined) return own;
    const route = defaultRouteDevice(family);
    const candidates = devices
      .filter(({ name }) => route === null || name === route)
      .flatMap(({ addresses }) => addresses.filter((ip) => familyOf(ip) === family && !isLoopback(ip)));
    return candidates.slice(0, 1);
  });
}

/** How pods' devices are told from those that lead outside. */
export type PodPlaces = Pick<DriverOptions, 'clusterCidrs' | 'podInterfaces'>;

/**
 * Does traffic from outside the cluster come and go by this device? Those with an address of the node: the device of a pod has
 * none, and a bridge of pods one of the pod network's. Not if it is named as the pods'.
 */
export function isOuter({ name, addresses }: Device, { clusterCidrs, podInterfaces }: PodPlaces): boolean {
  if (podInterfaces && (podInterfaces.prefix ? name.startsWith(podInterfaces.name) : name === podInterfaces.name))
    return false;
  return addresses.some((ip) => !isLoopback(ip) && !clusterCidrs.some((cidr) => cidrContains(cidr, ip)));
}

export const isLoopback = (ip: Ip): boolean => ip.startsWith('127.') || ip === '::1';

/** From proc(5): the tables of the namespace that this process is in. */
function defaultRouteDevice(family: Family): string | null {
  const table = family === 'IPv4' ? '/proc/self/net/route' : '/proc/self/net/ipv6_route';
  for (const line of readTable(table)) {
    const fields = line.trim().split(/\s+/);
    if (family === 'IPv4' && fields[1] === '00000000' && fields[7] === '00000000') return fields[0] ?? null;
    const device = fields[9];
    if (family === 'IPv6' && /^0{32}$/.test(fields[0] ?? '') && fields[1] === '00' && device !== 'lo')
      return device ?? null;
  }
  return null;
}

/** No lines where the kernel is built without the family. */
function readTable(path: string): readonly string[] {
  try {
    return readFileSync(path, 'utf8').split('\n');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}
