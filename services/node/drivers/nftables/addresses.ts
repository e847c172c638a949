import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { canonicalIp, familyOf, type Ip } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import { families } from './frontends.ts';

/**
 * The address of each family under which this node is known: that of the interface with the default route; without such a route,
 * the first global one. Read anew whenever it is needed, because leases end.
 */
export function primaryAddresses(): Ip[] {
  const own = ownAddresses();
  return families.flatMap((family) => {
    const device = defaultDevice(family);
    const candidates = own.filter((address) => address.family === family);
    const [best] = [...candidates.filter((address) => address.device === device), ...candidates];
    return best ? [best.ip] : [];
  });
}

interface OwnAddress {
  readonly device: string;
  readonly family: Family;
  readonly ip: Ip;
}

function ownAddresses(): OwnAddress[] {
  const found: OwnAddress[] = [];
  for (const [device, list] of Object.entries(networkInterfaces())) {
    for (const { address, internal, scopeid } of list ?? []) {
      const ip = internal || (scopeid ?? 0) !== 0 ? null : canonicalIp(address);
      if (ip !== null) found.push({ device, family: familyOf(ip), ip });
    }
  }
  return found;
}

function defaultDevice(family: Family): string | null {
  const file = family === 'IPv4' ? '/proc/net/route' : '/proc/net/ipv6_route';
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    // The kernel has no such family, so it has no route of it.
    return null;
  }
  return family === 'IPv4' ? defaultDevice4(text) : defaultDevice6(text);
}

/** proc(5): interface, destination, gateway, flags, refcnt, use, metric, mask. */
export function defaultDevice4(text: string): string | null {
  const routes = text
    .split('\n')
    .slice(1)
    .map((line) => line.split(/\s+/));
  return leastMetric(
    routes.filter(([, to, , , , , , mask]) => to === '00000000' && mask === '00000000'),
    0,
    6,
    10,
  );
}

/** Destination, prefix length, source, its length, next hop, metric, refcnt, use, flags, interface. */
export function defaultDevice6(text: string): string | null {
  const routes = text.split('\n').map((line) => line.trim().split(/\s+/));
  const usable = routes.filter((route) => /^0{32}$/.test(route[0] ?? '') && route[1] === '00' && route[9] !== 'lo');
  return leastMetric(usable, 9, 5, 16);
}

function leastMetric(routes: string[][], device: number, metric: number, radix: number): string | null {
  const value = (route: string[]): number => Number.parseInt(route[metric] ?? '', radix);
  const [best] = routes.sort((a, b) => value(a) - value(b));
  return best?.[device] ?? null;
}
