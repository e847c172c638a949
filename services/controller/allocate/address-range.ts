import { createHash } from 'node:crypto';
import { type Cidr, cidrContains, familyOf, type Ip, ipFromBytes, ipToBytes } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';

/** Larger networks are used up to this many addresses. */
const maxSize = 2 ** 24;

/** The addresses of one --service-cidr that may be given out. */
export class AddressRange {
  readonly cidr: Cidr;
  readonly family: Family;
  /** Addresses that may be given out, by index 0 to size - 1. */
  readonly size: number;
  readonly #base: bigint;
  /** The lower part is given out last: people name addresses there (KEP-3070 has the formula). */
  readonly #band: number;

  constructor(cidr: Cidr) {
    this.cidr = cidr;
    this.family = familyOf(cidr.ip);
    const bits = (this.family === 'IPv4' ? 32 : 128) - cidr.length;
    const addresses = bits >= 24 ? maxSize : 2 ** bits;
    // The first is the network's own, and the last of an IPv4 network is its broadcast address.
    this.size = Math.max(0, addresses - (this.family === 'IPv4' ? 2 : 1));
    this.#base = toNumber(cidr.ip) + 1n;
    this.#band = this.size > 16 ? Math.min(Math.max(16, Math.floor(addresses / 16)), 256) : 0;
  }

  /** Every address once, starting from a place that depends on `seed` alone, the lower part last. */
  *candidates(seed: string): Generator<Ip> {
    const upper = this.size - this.#band;
    const start = upper > 0 ? hash(seed) % upper : 0;
    for (let i = 0; i < upper; i++) yield this.#at(this.#band + ((start + i) % upper));
    for (let i = 0; i < this.#band; i++) yield this.#at(i);
  }

  includes(ip: Ip): boolean {
    return cidrContains(this.cidr, ip);
  }

  #at(index: number): Ip {
    const bytes = new Uint8Array(this.family === 'IPv4' ? 4 : 16);
    let rest = this.#base + BigInt(index);
    for (let i = bytes.length - 1; i >= 0; i--) {
      bytes[i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
    // A sum within a valid network is a valid address.
    return ipFromBytes(bytes) ?? this.cidr.ip;
  }
}

/** 32 bits that are the same on every replica and in every release. */
export const hash = (text: string): number => createHash('sha256').update(text).digest().readUInt32BE(0);

const toNumber = (ip: Ip): bigint => BigInt(`0x${Buffer.from(ipToBytes(ip)).toString('hex')}`);
