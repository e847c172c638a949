import { type Cidr, canonicalIp, cidrContains, familyOf, type Ip, parseCidr } from './address.ts';
import { describe, type Findings, type Path } from './findings.ts';
import type { Family } from './keys.ts';

/** Addresses that no endpoint or external IP may have (ValidateEndpointIP of the Kubernetes API; all multicast here). */
const unusable: readonly { readonly cidr: Cidr; readonly what: string }[] = (
  [
    ['0.0.0.0/32', 'the unspecified address'],
    ['127.0.0.0/8', 'a loopback address'],
    ['169.254.0.0/16', 'a link-local address'],
    ['224.0.0.0/4', 'a multicast address'],
    ['::/128', 'the unspecified address'],
    ['::1/128', 'a loopback address'],
    ['fe80::/10', 'a link-local address'],
    ['ff00::/8', 'a multicast address'],
  ] as const
).flatMap(([text, what]) => {
  const cidr = parseCidr(text);
  return cidr ? [{ cidr, what }] : [];
});

/** The first byte, or the first group, tells whether the table need be looked at: almost never. */
const suspicious = /^(?:0\.|127\.|169\.254\.|22[4-9]\.|23\d\.|::|f[ef])/;

/** The canonical address, or null when refused. */
export function readIp(value: unknown, path: Path, findings: Findings, family: Family | null): Ip | null {
  const ip = typeof value === 'string' ? canonicalIp(value) : null;
  if (ip === null) {
    findings.refuse(
      path,
      `${describe(value)} is not an IP address`,
      'use an IPv4 or IPv6 address; names are not resolved',
    );
    return null;
  }
  if (family !== null && familyOf(ip) !== family) {
    findings.refuse(path, `${ip} is ${familyOf(ip)} among ${family} addresses`, 'make an EndpointSlice per family');
    return null;
  }
  return ip;
}

/** An address that traffic can be sent to, or null when refused. */
export function readReachableIp(value: unknown, path: Path, findings: Findings, family: Family | null): Ip | null {
  const ip = readIp(value, path, findings, family);
  if (ip === null || !suspicious.test(ip)) return ip;
  const match = unusable.find(({ cidr }) => cidrContains(cidr, ip));
  if (!match) return ip;
  findings.refuse(path, `${ip} is ${match.what}`, 'use an address that other nodes can reach');
  return null;
}

export function readCidr(value: unknown, path: Path, findings: Findings): Cidr | null {
  const cidr = typeof value === 'string' ? parseCidr(value.trim()) : null;
  if (cidr === null)
    findings.refuse(path, `${describe(value)} is not a network`, 'use ADDRESS/LENGTH, such as 192.0.2.0/24');
  return cidr;
}
