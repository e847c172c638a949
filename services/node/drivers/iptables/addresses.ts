import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { canonicalIp, familyOf, type Ip } from '@octoplane/model/address.ts';

/** This node's addresses, those of the default route's device first, without loopback and link-local ones. */
export function readNodeAddresses(): readonly Ip[] {
  const uplinks = new Set([
    ...defaultDevices('/proc/self/net/route', isDefault4, 0),
    ...defaultDevices('/proc/self/net/ipv6_route', isDefault6, 9),
  ]);
  const first: Ip[] = [];
  const others: Ip[] = [];
  for (const [device, addresses = []] of Object.entries(networkInterfaces())) {
    for (const { address, internal } of addresses) {
      const ip = canonicalIp(address);
      if (ip === null || internal || (familyOf(ip) === 'IPv6' && ip.startsWith('fe80:'))) continue;
      (uplinks.has(device) ? first : others).push(ip);
    }
  }
  return [...first, ...others];
}

/** proc(5): device, destination, ..., mask. */
const isDefault4 = (fields: readonly string[]): boolean => fields[1] === '00000000' && fields[7] === '00000000';

/** Destination, length, ..., device; lo carries the unreachable default. */
const isDefault6 = (fields: readonly string[]): boolean =>
  /^0{32}$/.test(fields[0] ?? '') && fields[1] === '00' && fields[9] !== 'lo';

function defaultDevices(path: string, isDefault: (fields: readonly string[]) => boolean, at: number): string[] {
  return readLines(path).flatMap((line) => {
    const fields = line.trim().split(/\s+/);
    const device = fields[at];
    return device !== undefined && isDefault(fields) ? [device] : [];
  });
}

function readLines(path: string): readonly string[] {
  try {
    return readFileSync(path, 'utf8').split('\n');
  } catch (error) {
    // A kernel without the family has no such file.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}
