import { closeSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { type Ip, ipToBytes } from '@octoplane/model/address.ts';
import { connectSocket, ipProtocols, openSocket, receiveFrom, sendTo, socketTypes } from './libc.ts';
import type { Peer } from './outcome.ts';
import { Readiness } from './readiness.ts';

/**
 * TCP segments that no TCP would send: with a sequence number far ahead of the window, so that conntrack finds them INVALID and
 * does not translate them (nf_conntrack_proto_tcp.c, tcp_in_window). What is far behind it takes for a late duplicate and
 * translates. Without knowing the connection's numbers, two that are half the number space apart are one of each.
 */
const readiness = new Readiness();
const headerLength = 20;
const ackFlag = 0x10;

export function sendForged(netns: string, from: Peer, to: Peer): void {
  const fd = openSocket(netns, isIPv4(to.ip) ? 4 : 6, socketTypes.raw, ipProtocols.tcp);
  try {
    connectSocket(fd, to.ip, 0);
    for (const sequence of [0x7fff_0000, 0xffff_0000]) sendTo(fd, forgedSegment(from, to, sequence), null);
  } finally {
    closeSync(fd);
  }
}

/** Pure. */
export function forgedSegment(from: Peer, to: Peer, sequence: number): Buffer {
  const segment = Buffer.alloc(headerLength);
  segment.writeUInt16BE(from.port, 0);
  segment.writeUInt16BE(to.port, 2);
  segment.writeUInt32BE(sequence, 4);
  segment.writeUInt32BE(sequence, 8);
  segment.writeUInt8((headerLength / 4) << 4, 12);
  segment.writeUInt8(ackFlag, 13);
  segment.writeUInt16BE(1024, 14);
  segment.writeUInt16BE(checksum(from.ip, to.ip, segment), 16);
  return segment;
}

/** Counts TCP segments that arrive from an address, from now on, as the network sees them: before any socket does. */
export class SegmentWatch {
  readonly #fd: number;
  #seen = 0;
  #onSeen: (() => void) | null = null;

  constructor(netns: string, from: Ip) {
    this.#fd = openSocket(netns, isIPv4(from) ? 4 : 6, socketTypes.raw, ipProtocols.tcp);
    const sender = Buffer.from(ipToBytes(from));
    readiness.add(this.#fd, () => {
      for (let got = receiveFrom(this.#fd); got !== null; got = receiveFrom(this.#fd)) {
        if (!sender.equals(got.address)) continue;
        this.#seen++;
        this.#onSeen?.();
      }
    });
  }

  /** True as soon as one was seen, false when none was within the time. Ends the watch. */
  async any(timeoutMs: number): Promise<boolean> {
    if (this.#seen === 0)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        this.#onSeen = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    readiness.remove(this.#fd);
    return this.#seen > 0;
  }
}

/** RFC 9293, 3.1: over the pseudo-header and the segment. */
function checksum(from: Ip, to: Ip, segment: Buffer): number {
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(segment.length, 0);
  pseudo.writeUInt32BE(ipProtocols.tcp, 4);
  const bytes = Buffer.concat([ipToBytes(from), ipToBytes(to), pseudo, segment]);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
