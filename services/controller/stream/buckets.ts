import { entryToProto } from '@octoplane/model/codec.ts';
import type { EntryChange } from '@octoplane/model/delta.ts';
import { bucketCount, bucketOf, type Digest, digestFromBytes, entryDifference, wrap } from '@octoplane/model/digest.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry, RuleSet } from '@octoplane/model/rule-set.ts';
import type { Views } from '../compute/batch.ts';
import { encodeChange, maxChangesBytes, type PartBody } from './frame-bytes.ts';

/** What a node's view has instead of its class's entry; null: nothing. */
export type Overrides = ReadonlyMap<ServicePortKey, Entry | null>;

/** A run of buckets of a class that fits one message. */
interface Run {
  readonly buckets: readonly number[];
  readonly changes: readonly Buffer[];
}

/**
 * A class's rule set by bucket, for repairs. Built when first asked for, then kept up to date commit by commit; a bucket is
 * encoded once and stays encoded until a commit touches it, so a herd of nodes that hold nothing costs one encoding.
 */
export class ClassBuckets {
  readonly #entries: Map<ServicePortKey, Entry>[] = Array.from({ length: bucketCount }, () => new Map());
  readonly #encoded: (Buffer[] | null)[] = new Array<Buffer[] | null>(bucketCount).fill(null);
  #runs: readonly Run[] | null = null;

  constructor(ruleSet: RuleSet) {
    for (const entry of ruleSet.values()) this.#entries[bucketOf(entry.key)]?.set(entry.key, entry);
  }

  update(changes: readonly EntryChange[]): void {
    for (const { key, after } of changes) {
      const bucket = bucketOf(key);
      if (after) this.#entries[bucket]?.set(key, after);
      else this.#entries[bucket]?.delete(key);
      this.#encoded[bucket] = null;
    }
    this.#runs = null;
  }

  /** The whole view of a node, cut into messages. */
  snapshot(overrides: Overrides): PartBody[] {
    const byBucket = groupByBucket(overrides);
    const repair = { all: true, buckets: [] };
    this.#runs ??= this.#cutRuns(range(bucketCount), new Map());
    const runs = this.#runs;
    const isOverridden = ({ buckets }: Run) => buckets.some((bucket) => byBucket.has(bucket));
    const isCut = (run: Run, i: number) => run.buckets.at(-1) === runs[i + 1]?.buckets[0];
    // An overridden bucket that spans two messages is not worth a rule of its own.
    const made = runs.some((run, i) => isCut(run, i) && byBucket.has(run.buckets.at(-1) ?? -1))
      ? this.#cutRuns(range(bucketCount), byBucket)
      : runs.flatMap((run) => (isOverridden(run) ? this.#cutRuns(run.buckets, byBucket) : [run]));
    return made.map(({ changes }) => ({ changes, repair }));
  }

  /** These buckets of a node's view, cut into messages. */
  repair(buckets: readonly number[], overrides: Overrides): PartBody[] {
    return this.#cutRuns(buckets, groupByBucket(overrides)).map((run) => ({
      changes: run.changes,
      repair: { all: false, buckets: run.buckets },
    }));
  }

  #cutRuns(buckets: readonly number[], overrides: ReadonlyMap<number, Overrides>): Run[] {
    const runs: Run[] = [];
    let run: { buckets: number[]; changes: Buffer[] } = { buckets: [], changes: [] };
    let size = 0;
    for (const bucket of buckets) {
      for (const chunk of this.#chunks(bucket, overrides.get(bucket))) {
        if (size > 0 && size + chunk.length > maxChangesBytes) {
          runs.push(run);
          run = { buckets: [], changes: [] };
          size = 0;
        }
        if (run.buckets.at(-1) !== bucket) run.buckets.push(bucket);
        run.changes.push(chunk);
        size += chunk.length;
      }
      if (run.buckets.at(-1) !== bucket) run.buckets.push(bucket);
    }
    runs.push(run);
    return runs.map(({ buckets, changes }) => ({ buckets, changes: [Buffer.concat(changes)] }));
  }

  /** A bucket's changes, joined as far as they fit one message. */
  #chunks(bucket: number, overrides: Overrides | undefined): readonly Buffer[] {
    const entries = this.#entries[bucket] ?? new Map<ServicePortKey, Entry>();
    if (overrides) return joined(withOverrides(entries, overrides));
    const known = this.#encoded[bucket];
    if (known) return known;
    const made = joined(entries.values());
    this.#encoded[bucket] = made;
    return made;
  }
}

/** Buckets in which a node's digests (BucketDigests of stream.proto, 8,192 bytes) differ from its view's. */
export function differingBuckets(
  held: Buffer,
  classSums: ReturnType<Views['classSums']>,
  adjustments: ReadonlyMap<number, Digest>,
): number[] {
  const differing: number[] = [];
  for (let bucket = 0; bucket < bucketCount; bucket++) {
    const own = wrap(classSums.bucket(bucket) + (adjustments.get(bucket) ?? 0n));
    if (digestFromBytes(held.subarray(bucket * 8, bucket * 8 + 8)) !== own) differing.push(bucket);
  }
  return differing;
}

/** What overrides add to the bucket sums of their class. */
export function bucketAdjustments(classRuleSet: RuleSet, overrides: Overrides): Map<number, Digest> {
  const adjustments = new Map<number, Digest>();
  for (const [key, entry] of overrides) {
    const bucket = bucketOf(key);
    const difference = entryDifference(classRuleSet.get(key) ?? null, entry);
    adjustments.set(bucket, wrap((adjustments.get(bucket) ?? 0n) + difference));
  }
  return adjustments;
}

function* withOverrides(entries: ReadonlyMap<ServicePortKey, Entry>, overrides: Overrides): Generator<Entry> {
  for (const [key, entry] of entries) if (!overrides.has(key)) yield entry;
  for (const entry of overrides.values()) if (entry) yield entry;
}

function joined(entries: Iterable<Entry>): Buffer[] {
  const chunks: Buffer[] = [];
  let pending: Buffer[] = [];
  let size = 0;
  const flush = () => {
    if (pending.length > 0) chunks.push(Buffer.concat(pending));
    pending = [];
    size = 0;
  };
  for (const entry of entries) {
    const change = encodeChange(entryToProto(entry));
    if (size + change.length > maxChangesBytes) flush();
    pending.push(change);
    size += change.length;
  }
  flush();
  return chunks;
}

function groupByBucket(overrides: Overrides): ReadonlyMap<number, Overrides> {
  const groups = new Map<number, Map<ServicePortKey, Entry | null>>();
  for (const [key, entry] of overrides) {
    const bucket = bucketOf(key);
    const group = groups.get(bucket);
    if (group) group.set(key, entry);
    else groups.set(bucket, new Map([[key, entry]]));
  }
  return groups;
}

const range = (length: number): number[] => Array.from({ length }, (_, i) => i);
