import xxhash from 'xxhash-wasm';
import type { ServicePortKey } from './keys.ts';
import { compareEndpoints, type Endpoint, type Entry, type RuleSet, type ServicePortSpec } from './rule-set.ts';

/**
 * The digest of proto/octoplane/v1/rules.proto: a sum of item hashes modulo 2^64, so that it does not depend on order and a
 * change costs as much as the change. It finds divergence, not malice: peers are told apart by their certificates.
 */
export type Digest = bigint;

export const bucketCount = 1024;

const { h64 } = await xxhash();

/** Sums per bucket, kept up to date entry by entry. */
export class DigestSums {
  /** Wraps modulo 2^64 by itself. */
  readonly #buckets = new BigUint64Array(bucketCount);
  #total = 0n;

  static of(ruleSet: RuleSet): DigestSums {
    const sums = new DigestSums();
    for (const entry of ruleSet.values()) sums.replace(null, entry);
    return sums;
  }

  get total(): Digest {
    return this.#total;
  }

  bucket(index: number): Digest {
    return this.#buckets[index] ?? 0n;
  }

  /** Accounts for an entry that takes the place of another; null: absent. */
  replace(before: Entry | null, after: Entry | null): void {
    const key = after?.key ?? before?.key;
    if (key === undefined) return;
    const change = entryDifference(before, after);
    const index = bucketOf(key);
    this.#buckets[index] = (this.#buckets[index] ?? 0n) + change;
    this.#total = wrap(this.#total + change);
  }

  clone(): DigestSums {
    const copy = new DigestSums();
    copy.#buckets.set(this.#buckets);
    copy.#total = this.#total;
    return copy;
  }

  /** 8 bytes a bucket, big endian, in the order of the buckets. */
  toBytes(): Buffer {
    const bytes = Buffer.alloc(bucketCount * 8);
    for (const [i, sum] of this.#buckets.entries()) bytes.writeBigUInt64BE(sum, i * 8);
    return bytes;
  }
}

export const digestOf = (ruleSet: RuleSet): Digest => DigestSums.of(ruleSet).total;

/** What replacing `before` by `after` adds to a digest, modulo 2^64. Costs as much as they differ. */
export function entryDifference(before: Entry | null, after: Entry | null): Digest {
  if (before === after) return 0n;
  let sum = 0n;
  if (before?.spec !== after?.spec) {
    if (before) sum -= hashSpec(before.key, before.spec);
    if (after) sum += hashSpec(after.key, after.spec);
  }
  const key = after?.key ?? before?.key;
  if (key !== undefined) sum += endpointDifference(key, before?.endpoints ?? [], after?.endpoints ?? []);
  return wrap(sum);
}

export const wrap = (sum: bigint): Digest => BigInt.asUintN(64, sum);

export const bucketOf = (key: ServicePortKey): number => Number(h64(key) & 0x3ffn);

/** 8 bytes, big endian. */
export function digestToBytes(digest: Digest): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(digest);
  return bytes;
}

/** Null unless there are 8 bytes. */
export const digestFromBytes = (bytes: Uint8Array): Digest | null =>
  bytes.length === 8 ? Buffer.from(bytes.buffer, bytes.byteOffset, 8).readBigUInt64BE() : null;

export const formatDigest = (digest: Digest): string => digest.toString(16).padStart(16, '0');

/** One walk over both ascending lists; endpoints that are the same object on both sides cost a comparison of pointers. */
function endpointDifference(key: ServicePortKey, before: readonly Endpoint[], after: readonly Endpoint[]): bigint {
  if (before === after) return 0n;
  let sum = 0n;
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    const a = before[i];
    const b = after[j];
    const order = a === b ? 0 : a === undefined ? 1 : b === undefined ? -1 : compareEndpoints(a, b);
    if (order <= 0) i++;
    if (order >= 0) j++;
    if (a === b || (order === 0 && a?.flags === b?.flags)) continue;
    if (a && order <= 0) sum -= hashEndpoint(key, a);
    if (b && order >= 0) sum += hashEndpoint(key, b);
  }
  return sum;
}

const policyNumber = { Cluster: 1, Local: 2 } as const;

const hashSpec = (key: ServicePortKey, spec: ServicePortSpec): bigint =>
  h64(
    `H|${key}|${spec.clusterIps.join()}|${spec.externalIps.join()}|${spec.loadBalancerIps.join()}|${spec.nodePort}` +
      `|${policyNumber[spec.internalPolicy]}|${policyNumber[spec.externalPolicy]}|${spec.affinityTimeoutSeconds}` +
      `|${spec.sourceRanges.join()}|${spec.healthCheckNodePort}|${spec.usableFamilies}`,
  );

const hashEndpoint = (key: ServicePortKey, endpoint: Endpoint): bigint =>
  h64(`E|${key}|${endpoint.ip}|${endpoint.port}|${endpoint.flags}`);
