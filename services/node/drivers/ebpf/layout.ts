import { familyOf, type Ip, ipFromBytes, ipToBytes } from '@octoplane/model/address.ts';
import type { Family, Protocol } from '@octoplane/model/keys.ts';

/**
 * The bytes that services/node/bpf/structs.h describes. Numbers are in the machine's order, which is little endian on all
 * that Octoplane runs on; addresses and ports in network order.
 */

/**
 * Raised with every change of a struct or a map that is there: maps of another layout are left to the programs that know them.
 * A new map needs no other number.
 */
export const layoutVersion = 3;

export const endpointBytes = 24;
export const frontendBytes = 40;
export const backendBytes = 24;
export const serviceBytes = 180;
export const addressBytes = 16;
export const addressRolesBytes = 4;
export const configBytes = 48;
export const rangeKeyBytes = 24;
export const tupleBytes = 40;
export const flowBytes = 56;

export const maxServiceKeyBytes = 160;
/** As MAX_SET in consts.h. */
export const maxSet = 65_535;

export const frontendKinds = { clusterIp: 1, externalIp: 2, loadBalancer: 4, nodePort: 8 } as const;
export const frontendFlags = { dropInside: 1, dropOutside: 2, masquerade: 4, ranges: 8, packets: 16 } as const;
export const addressRoles = { node: 1, loopback: 2, clusterIp: 4, external: 8, localBackend: 16 } as const;
export const echoActions = { pass: 0, reply: 1, reject: 2, drop: 3 } as const;

export const flowFlags = { closing: 8 } as const;
/** As in consts.h. */
export const idleSeconds = { UDP: 180, TCP: 28_800, closing: 60 } as const;

const protocolNumbers = { TCP: 6, UDP: 17, SCTP: 132 } as const;

export const anyAddress = (family: Family): Ip => (family === 'IPv4' ? '0.0.0.0' : '::');

export interface Endpoint {
  readonly ip: Ip;
  readonly port: number;
  readonly protocol: Protocol;
}

export interface Window {
  readonly start: number;
  readonly count: number;
}

export interface FrontendValue {
  readonly service: number;
  readonly inside: Window;
  readonly outside: Window;
  readonly affinitySeconds: number;
  readonly flags: number;
  readonly kinds: number;
  readonly generation: number;
}

export interface BackendValue {
  readonly ip: Ip;
  readonly port: number;
  readonly flags: number;
  readonly service: number;
}

export interface ServiceRecord {
  readonly start: number;
  readonly count: number;
  readonly affinitySeconds: number;
  readonly policies: number;
  readonly usableFamilies: number;
  readonly generation: number;
  readonly key: string;
}

/** IPv4 as ::ffff:a.b.c.d. */
export function writeAddress(out: Buffer, at: number, ip: Ip): void {
  if (familyOf(ip) === 'IPv6') {
    out.set(ipToBytes(ip), at);
    return;
  }
  out.fill(0, at, at + 10);
  out.writeUInt16LE(0xffff, at + 10);
  let byte = 0;
  let position = at + 12;
  for (let i = 0; i < ip.length; i++) {
    const code = ip.charCodeAt(i);
    if (code === 46) {
      out[position++] = byte;
      byte = 0;
    } else {
      byte = byte * 10 + code - 48;
    }
  }
  out[position] = byte;
}

/** Null for bytes that writeAddress does not write. */
export function readAddress(bytes: Buffer, at: number): Ip | null {
  if (bytes.readUInt32LE(at) === 0 && bytes.readUInt32LE(at + 4) === 0 && bytes.readUInt32LE(at + 8) === 0xffff_0000)
    return `${bytes[at + 12]}.${bytes[at + 13]}.${bytes[at + 14]}.${bytes[at + 15]}`;
  return ipFromBytes(bytes.subarray(at, at + addressBytes));
}

/** Every byte is written: keys are compared and hashed as they lie in memory. */
export function writeEndpoint(out: Buffer, at: number, { ip, port, protocol }: Endpoint): void {
  writeAddress(out, at, ip);
  out.writeUInt16BE(port, at + 16);
  out.fill(0, at + 18, at + endpointBytes);
  out[at + 18] = protocolNumbers[protocol];
}

export function readEndpoint(bytes: Buffer, at: number): Endpoint | null {
  const ip = readAddress(bytes, at);
  const protocol = protocolOf(bytes[at + 18]);
  return ip === null || protocol === null ? null : { ip, port: bytes.readUInt16BE(at + 16), protocol };
}

/** `guard` is taken from the key, which must have been written. */
export function writeFrontend(out: Buffer, at: number, value: FrontendValue, key: Buffer, keyAt: number): void {
  out.writeUInt32LE(((key.readUInt16LE(keyAt + 16) << 16) | (key[keyAt + 18] ?? 0)) >>> 0, at);
  key.copy(out, at + 4, keyAt + 12, keyAt + 16);
  out.writeUInt32LE(value.service, at + 8);
  out.writeUInt32LE(value.inside.start, at + 12);
  out.writeUInt32LE(value.inside.count, at + 16);
  out.writeUInt32LE(value.outside.start, at + 20);
  out.writeUInt32LE(value.outside.count, at + 24);
  out.writeUInt32LE(value.affinitySeconds, at + 28);
  out.writeUInt16LE(value.flags, at + 32);
  out[at + 34] = value.kinds;
  out[at + 35] = 0;
  out.writeUInt32LE(value.generation, at + 36);
}

/** The value as it is, which may not be as the service's record says. */
export function readFrontend(bytes: Buffer, at: number): FrontendValue {
  return {
    service: bytes.readUInt32LE(at + 8),
    inside: { start: bytes.readUInt32LE(at + 12), count: bytes.readUInt32LE(at + 16) },
    outside: { start: bytes.readUInt32LE(at + 20), count: bytes.readUInt32LE(at + 24) },
    affinitySeconds: bytes.readUInt32LE(at + 28),
    flags: bytes.readUInt16LE(at + 32),
    kinds: bytes[at + 34] ?? 0,
    generation: bytes.readUInt32LE(at + 36),
  };
}

export function writeBackend(out: Buffer, at: number, { ip, port, flags, service }: BackendValue): void {
  writeAddress(out, at, ip);
  out.writeUInt16BE(port, at + 16);
  out[at + 18] = flags;
  out[at + 19] = 0;
  out.writeUInt32LE(service, at + 20);
}

export function readBackend(bytes: Buffer, at: number): BackendValue | null {
  const ip = readAddress(bytes, at);
  if (ip === null) return null;
  return {
    ip,
    port: bytes.readUInt16BE(at + 16),
    flags: bytes[at + 18] ?? 0,
    service: bytes.readUInt32LE(at + 20),
  };
}

export function writeService(out: Buffer, at: number, record: ServiceRecord): void {
  out.fill(0, at, at + serviceBytes);
  out.writeUInt32LE(record.start, at);
  out.writeUInt32LE(record.count, at + 4);
  out.writeUInt32LE(record.affinitySeconds, at + 8);
  out[at + 12] = record.policies;
  out[at + 13] = record.usableFamilies;
  out[at + 14] = out.write(record.key, at + 16, maxServiceKeyBytes, 'utf8');
  out.writeUInt32LE(record.generation, at + 176);
}

export function readService(bytes: Buffer, at: number): ServiceRecord {
  return {
    start: bytes.readUInt32LE(at),
    count: bytes.readUInt32LE(at + 4),
    affinitySeconds: bytes.readUInt32LE(at + 8),
    policies: bytes[at + 12] ?? 0,
    usableFamilies: bytes[at + 13] ?? 0,
    generation: bytes.readUInt32LE(at + 176),
    key: bytes.toString('utf8', at + 16, at + 16 + (bytes[at + 14] ?? 0)),
  };
}

/** A prefix of an IPv4 address counts from the start of ::ffff:a.b.c.d, and every prefix from the service id. */
export function writeRangeKey(out: Buffer, at: number, service: number, ip: Ip, length: number): void {
  out.writeUInt32LE(32 + length + (familyOf(ip) === 'IPv4' ? 96 : 0), at);
  out.writeUInt32LE(service, at + 4);
  writeAddress(out, at + 8, ip);
}

export function readRangeKey(bytes: Buffer, at: number): { service: number; range: string } | null {
  const ip = readAddress(bytes, at + 8);
  if (ip === null) return null;
  const bits = bytes.readUInt32LE(at) - 32 - (familyOf(ip) === 'IPv4' ? 96 : 0);
  return { service: bytes.readUInt32LE(at + 4), range: `${ip}/${bits}` };
}

function protocolOf(number: number | undefined): Protocol | null {
  if (number === protocolNumbers.TCP) return 'TCP';
  if (number === protocolNumbers.UDP) return 'UDP';
  return number === protocolNumbers.SCTP ? 'SCTP' : null;
}
