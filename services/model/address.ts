import { isIPv4, isIPv6, SocketAddress } from 'node:net';
import type { Family } from './keys.ts';

/** An IP address in canonical text: dotted decimal, or RFC 5952. Two equal addresses are equal strings. */
export type Ip = string;

/** The canonical text of an address, or null when the text is not an address. IPv4-mapped IPv6 is not one: its family is ambiguous. */
export function canonicalIp(text: string): Ip | null {
  if (isIPv4(text)) return text;
  if (!isIPv6(text) || text.includes('%')) return null;
  const canonical = new SocketAddress({ address: text, family: 'ipv6' }).address;
  return canonical.startsWith('::ffff:') && canonical.includes('.') ? null : canonical;
}

export const familyOf = (ip: Ip): Family => (ip.includes(':') ? 'IPv6' : 'IPv4');

/** Network order, 4 or 16 bytes. The argument must be canonical. */
export function ipToBytes(ip: Ip): Uint8Array {
  return ip.includes(':') ? ipv6ToBytes(ip) : Uint8Array.from(ip.split('.'), Number);
}

/** Inverse of ipToBytes; null unless there are 4 or 16 bytes that make an address that canonicalIp accepts. */
export function ipFromBytes(bytes: Uint8Array): Ip | null {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) return null;
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)).toString(16));
  return canonicalIp(groups.join(':'));
}

function ipv6ToBytes(ip: Ip): Uint8Array {
  const [head = '', tail] = withoutDottedTail(ip).split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const bytes = new Uint8Array(16);
  const write = (groups: string[], at: number) => {
    for (const [i, group] of groups.entries()) {
      const value = Number.parseInt(group, 16);
      bytes[at + 2 * i] = value >> 8;
      bytes[at + 2 * i + 1] = value & 0xff;
    }
  };
  write(before, 0);
  write(after, 16 - 2 * after.length);
  return bytes;
}

/** inet_ntop writes the deprecated IPv4-compatible addresses as ::1.2.3.4. */
function withoutDottedTail(ip: Ip): string {
  const colon = ip.lastIndexOf(':');
  const tail = ip.slice(colon + 1);
  if (!tail.includes('.')) return ip;
  const [a = 0, b = 0, c = 0, d = 0] = tail.split('.').map(Number);
  return `${ip.slice(0, colon + 1)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

export interface Cidr {
  /** Masked: host bits are zero. */
  readonly ip: Ip;
  readonly length: number;
}

/** Parses and masks "address/length"; null when it is not one. */
export function parseCidr(text: string): Cidr | null {
  const slash = text.indexOf('/');
  const ip = slash < 0 ? null : canonicalIp(text.slice(0, slash));
  const lengthText = text.slice(slash + 1);
  if (ip === null || !/^(0|[1-9][0-9]{0,2})$/.test(lengthText)) return null;
  const bytes = ipToBytes(ip);
  const length = Number(lengthText);
  if (length > bytes.length * 8) return null;
  for (let bit = length; bit < bytes.length * 8; bit++) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) & ~(0x80 >> (bit & 7));
  const masked = ipFromBytes(bytes);
  return masked === null ? null : { ip: masked, length };
}

export const formatCidr = (cidr: Cidr): string => `${cidr.ip}/${cidr.length}`;

export function cidrContains(cidr: Cidr, ip: Ip): boolean {
  if (familyOf(cidr.ip) !== familyOf(ip)) return false;
  const network = ipToBytes(cidr.ip);
  const address = ipToBytes(ip);
  const whole = cidr.length >> 3;
  for (let i = 0; i < whole; i++) if (network[i] !== address[i]) return false;
  const rest = cidr.length & 7;
  return rest === 0 || ((network[whole] ?? 0) ^ (address[whole] ?? 0)) >> (8 - rest) === 0;
}
