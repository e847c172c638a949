import { type Ip, ipFromBytes, ipToBytes } from '@octoplane/model/address.ts';
import type { Family, Protocol } from '@octoplane/model/keys.ts';
import { eachAttribute, type MessageWriter, textOf } from '../../netlink/message.ts';
import type { BusyDestination, Destination, VirtualService, VirtualServiceId } from './virtual-service.ts';
import { familyOfId } from './virtual-service.ts';

/** IPVS over generic netlink: include/uapi/linux/ip_vs.h. Numbers are in host order unless that says otherwise. */
export const familyName = 'IPVS';

export const commands = {
  newService: 1,
  setService: 2,
  delService: 3,
  getService: 4,
  newDestination: 5,
  setDestination: 6,
  delDestination: 7,
  getDestination: 8,
  setConfig: 12,
  getConfig: 13,
  getInfo: 15,
} as const;

const top = { service: 1, destination: 2, timeoutTcp: 4, timeoutTcpFin: 5, timeoutUdp: 6 } as const;
const service = {
  family: 1,
  protocol: 2,
  address: 3,
  port: 4,
  mark: 5,
  scheduler: 6,
  flags: 7,
  timeout: 8,
  netmask: 9,
} as const;
const destination = {
  address: 1,
  port: 2,
  forwarding: 3,
  weight: 4,
  upperThreshold: 5,
  lowerThreshold: 6,
  activeConnections: 7,
  inactiveConnections: 8,
} as const;

const serviceFlags = { persistent: 0x1, ours: 0x20 } as const;
const forwardingMask = 0x7;
const masquerading = 0;

const addressFamilies: Readonly<Record<Family, number>> = { IPv4: 2, IPv6: 10 };
const protocolNumbers: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
const protocolNames = new Map(Object.entries(protocolNumbers).map(([name, number]) => [number, name as Protocol]));

export interface Timeouts {
  readonly tcpSeconds: number;
  readonly tcpFinSeconds: number;
  readonly udpSeconds: number;
}

/** A virtual service as the kernel has it. */
export interface FoundService extends VirtualService {
  /**
   * Whether it carries our sign: the scheduler flag 3 (IP_VS_SVC_F_SCHED3, "flag-3" in ipvsadm), which no scheduler of the kernel
   * reads. Services of anybody else do not have it, and so are told from ours even after a crash.
   */
  readonly ours: boolean;
  /** Forwards and persists as ours do, for single clients. */
  readonly regular: boolean;
}

/** Null when it is of a protocol that no Service has. */
export type MaybeService = FoundService | null;

export function writeService(writer: MessageWriter, wanted: VirtualService): void {
  const nest = writer.beginNested(top.service);
  writeId(writer, wanted.id);
  writer.text(service.scheduler, wanted.scheduler);
  const persistent = wanted.persistenceSeconds > 0 ? serviceFlags.persistent : 0;
  // The second word says which bits are meant: all, so that flags which somebody else has set are cleared.
  writeU32s(writer, service.flags, serviceFlags.ours | persistent, 0xffff_ffff);
  writeU32s(writer, service.timeout, wanted.persistenceSeconds);
  writeU32s(writer, service.netmask, wholeMask(familyOfId(wanted.id)));
  writer.endNested(nest);
}

export function writeServiceId(writer: MessageWriter, id: VirtualServiceId): void {
  const nest = writer.beginNested(top.service);
  writeId(writer, id);
  writer.endNested(nest);
}

export function writeDestination(writer: MessageWriter, wanted: Destination): void {
  const nest = writer.beginNested(top.destination);
  writeAddress(writer, destination.address, wanted.ip);
  writePort(writer, destination.port, wanted.port);
  writeU32s(writer, destination.forwarding, masquerading);
  writeU32s(writer, destination.weight, wanted.weight);
  writeU32s(writer, destination.upperThreshold, 0);
  writeU32s(writer, destination.lowerThreshold, 0);
  writer.endNested(nest);
}

/** 0 leaves a timeout as it is. */
export function writeTimeouts(writer: MessageWriter, timeouts: Timeouts): void {
  writeU32s(writer, top.timeoutTcp, timeouts.tcpSeconds);
  writeU32s(writer, top.timeoutTcpFin, timeouts.tcpFinSeconds);
  writeU32s(writer, top.timeoutUdp, timeouts.udpSeconds);
}

/** From the body of a message, its generic header included. */
export function readService(body: Buffer, from: number): MaybeService {
  let family: Family = 'IPv4';
  let protocol: Protocol | undefined;
  let addressAt = 0;
  let port = 0;
  let mark = 0;
  let scheduler = '';
  let flags = 0;
  let timeout = 0;
  let netmask = 0;
  eachNested(body, from, top.service, (type, start, end) => {
    if (type === service.family) family = body.readUInt16LE(start) === addressFamilies.IPv6 ? 'IPv6' : 'IPv4';
    else if (type === service.protocol) protocol = protocolNames.get(body.readUInt16LE(start));
    else if (type === service.address) addressAt = start;
    else if (type === service.port) port = body.readUInt16BE(start);
    else if (type === service.mark) mark = body.readUInt32LE(start);
    else if (type === service.scheduler) scheduler = textOf(body, start, end);
    else if (type === service.flags) flags = body.readUInt32LE(start);
    else if (type === service.timeout) timeout = body.readUInt32LE(start);
    else if (type === service.netmask) netmask = body.readUInt32LE(start);
  });
  const id = idOf(mark, family, protocol, ipAt(body, addressAt, family), port);
  if (id === null) return null;
  const persistent = (flags & serviceFlags.persistent) !== 0;
  return {
    id,
    scheduler,
    persistenceSeconds: persistent ? timeout : 0,
    ours: (flags & serviceFlags.ours) !== 0,
    regular: netmask === wholeMask(family),
  };
}

/** Null when packets are not translated on their way to it, as ours are. */
export function readDestination(body: Buffer, from: number, family: Family): BusyDestination | null {
  let addressAt = 0;
  let port = 0;
  let forwarding: number = masquerading;
  let weight = 0;
  let activeConnections = 0;
  let inactiveConnections = 0;
  eachNested(body, from, top.destination, (type, start) => {
    if (type === destination.address) addressAt = start;
    else if (type === destination.port) port = body.readUInt16BE(start);
    else if (type === destination.forwarding) forwarding = body.readUInt32LE(start) & forwardingMask;
    else if (type === destination.weight) weight = body.readUInt32LE(start);
    else if (type === destination.activeConnections) activeConnections = body.readUInt32LE(start);
    else if (type === destination.inactiveConnections) inactiveConnections = body.readUInt32LE(start);
  });
  const ip = ipAt(body, addressAt, family);
  if (ip === null || forwarding !== masquerading) return null;
  return { ip, port, weight, activeConnections, inactiveConnections };
}

function eachNested(
  body: Buffer,
  from: number,
  wanted: number,
  visit: (type: number, start: number, end: number) => void,
): void {
  eachAttribute(body, from, body.length, (type, start, end) => {
    if (type === wanted) eachAttribute(body, start, end, visit);
  });
}

function idOf(
  mark: number,
  family: Family,
  protocol: Protocol | undefined,
  ip: Ip | null,
  port: number,
): VirtualServiceId | null {
  if (mark !== 0) return { t: 'mark', family, mark };
  return protocol === undefined || ip === null ? null : { t: 'address', protocol, ip, port };
}

function writeId(writer: MessageWriter, id: VirtualServiceId): void {
  writeU16(writer, service.family, addressFamilies[familyOfId(id)]);
  if (id.t === 'mark') {
    writeU32s(writer, service.mark, id.mark);
    return;
  }
  writeU16(writer, service.protocol, protocolNumbers[id.protocol]);
  writeAddress(writer, service.address, id.ip);
  writePort(writer, service.port, id.port);
}

/** union nf_inet_addr: 16 bytes, of which IPv4 uses the first four. */
function writeAddress(writer: MessageWriter, type: number, ip: Ip): void {
  const at = writer.reserve(type, 16);
  writer.target.set(ipToBytes(ip), at);
}

const ipAt = (body: Buffer, at: number, family: Family): Ip | null =>
  at === 0 ? null : ipFromBytes(body.subarray(at, at + (family === 'IPv4' ? 4 : 16)));

function writePort(writer: MessageWriter, type: number, port: number): void {
  const at = writer.reserve(type, 2);
  writer.target.writeUInt16BE(port, at);
}

function writeU16(writer: MessageWriter, type: number, value: number): void {
  const at = writer.reserve(type, 2);
  writer.target.writeUInt16LE(value, at);
}

function writeU32s(writer: MessageWriter, type: number, ...values: number[]): void {
  const at = writer.reserve(type, 4 * values.length);
  for (const [i, value] of values.entries()) writer.target.writeUInt32LE(value, at + 4 * i);
}

/** Persistence for each client alone: a mask for IPv4, a length for IPv6. */
const wholeMask = (family: Family): number => (family === 'IPv4' ? 0xffff_ffff : 128);
