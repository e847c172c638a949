import { familyOf, type Ip, ipToBytes } from '@octoplane/model/address.ts';
import { decodeSctp, encodeSctp, type SctpChunk } from '../../support/lab/sctp-packet.ts';

/** Packets as bytes, for programs that are run without a network. */
export interface Wire {
  readonly from: Ip;
  readonly to: Ip;
  readonly ttl?: number;
}

export interface Ports {
  readonly sport: number;
  readonly dport: number;
  readonly payload?: Buffer;
}

const IPPROTO = { tcp: 6, udp: 17, icmp: 1, icmpv6: 58, sctp: 132 } as const;

export function tcp(wire: Wire, { sport, dport, payload = Buffer.alloc(0) }: Ports, flags: number): Buffer {
  const segment = Buffer.alloc(20 + payload.length);
  segment.writeUInt16BE(sport, 0);
  segment.writeUInt16BE(dport, 2);
  segment.writeUInt32BE(0x01020304, 4);
  segment[12] = 0x50;
  segment[13] = flags;
  segment.writeUInt16BE(0xffff, 14);
  payload.copy(segment, 20);
  return inFrame(wire, IPPROTO.tcp, segment, 16);
}

export function udp(wire: Wire, { sport, dport, payload = Buffer.alloc(0) }: Ports): Buffer {
  const datagram = Buffer.alloc(8 + payload.length);
  datagram.writeUInt16BE(sport, 0);
  datagram.writeUInt16BE(dport, 2);
  datagram.writeUInt16BE(datagram.length, 4);
  payload.copy(datagram, 8);
  return inFrame(wire, IPPROTO.udp, datagram, 6);
}

export function sctp(wire: Wire, { sport, dport }: Ports, chunk: SctpChunk): Buffer {
  const packet = { sourcePort: sport, destinationPort: dport, verificationTag: 7, chunk };
  return inFrame(wire, IPPROTO.sctp, encodeSctp(packet), null);
}

export function echo(wire: Wire, payload: Buffer): Buffer {
  const v6 = familyOf(wire.from) === 'IPv6';
  const message = Buffer.concat([Buffer.from([v6 ? 128 : 8, 0, 0, 0, 0, 1, 0, 1]), payload]);
  return inFrame(wire, v6 ? IPPROTO.icmpv6 : IPPROTO.icmp, message, 2);
}

/** "Port unreachable" about `quoted`, a frame. */
export function unreachable(wire: Wire, quoted: Buffer): Buffer {
  const v6 = familyOf(wire.from) === 'IPv6';
  const head = Buffer.from(v6 ? [1, 4, 0, 0, 0, 0, 0, 0] : [3, 3, 0, 0, 0, 0, 0, 0]);
  const message = Buffer.concat([head, quoted.subarray(14, 14 + (v6 ? 48 : 28))]);
  return inFrame(wire, v6 ? IPPROTO.icmpv6 : IPPROTO.icmp, message, 2);
}

/** `checksumAt`: null when the body has one already. */
function inFrame({ from, to, ttl = 64 }: Wire, protocol: number, body: Buffer, checksumAt: number | null): Buffer {
  const v6 = familyOf(from) === 'IPv6';
  const ethernet = Buffer.from([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, ...(v6 ? [0x86, 0xdd] : [0x08, 0x00])]);
  const ip = Buffer.alloc(v6 ? 40 : 20);
  if (v6) {
    ip[0] = 0x60;
    ip.writeUInt16BE(body.length, 4);
    ip[6] = protocol;
    ip[7] = ttl;
    ip.set(ipToBytes(from), 8);
    ip.set(ipToBytes(to), 24);
  } else {
    ip[0] = 0x45;
    ip.writeUInt16BE(20 + body.length, 2);
    ip[8] = ttl;
    ip[9] = protocol;
    ip.set(ipToBytes(from), 12);
    ip.set(ipToBytes(to), 16);
    ip.writeUInt16BE(checksum(ip), 10);
  }
  const frame = Buffer.concat([ethernet, ip, body]);
  if (checksumAt !== null) frame.writeUInt16BE(transportSum(frame), 14 + ip.length + checksumAt);
  return frame;
}

/** What a frame says, and whether all its checksums are right. */
export interface Read {
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  readonly ttl: number;
  readonly body: Buffer;
  readonly valid: boolean;
}

export function read(frame: Buffer): Read {
  const v6 = frame.readUInt16BE(12) === 0x86dd;
  const ip = frame.subarray(14, v6 ? 54 : 34);
  const hex = (at: number, bytes: number) =>
    v6 ? ip.subarray(at, at + bytes).toString('hex') : ip.subarray(at, at + 4).join('.');
  return {
    from: hex(v6 ? 8 : 12, 16),
    to: hex(v6 ? 24 : 16, 16),
    protocol: ip[v6 ? 6 : 9] ?? 0,
    ttl: ip[v6 ? 7 : 8] ?? 0,
    body: frame.subarray(14 + ip.length),
    valid: (v6 || checksum(ip) === 0) && transportSum(frame) === 0,
  };
}

/** Of the transport, with the pseudo header but for ICMP (RFC 1071, RFC 8200 8.1); 0 when a checksum in it is right. */
function transportSum(frame: Buffer): number {
  const v6 = frame.readUInt16BE(12) === 0x86dd;
  const ip = frame.subarray(14, v6 ? 54 : 34);
  const protocol = ip[v6 ? 6 : 9] ?? 0;
  const body = frame.subarray(14 + ip.length);
  if (protocol === IPPROTO.icmp) return checksum(body);
  if (protocol === IPPROTO.sctp) return decodeSctp(body) === null ? 1 : 0;
  const tail = Buffer.alloc(8);
  tail.writeUInt32BE(body.length, 0);
  tail.writeUInt32BE(protocol, 4);
  return checksum(Buffer.concat([v6 ? ip.subarray(8, 40) : ip.subarray(12, 20), tail, body]));
}

function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
