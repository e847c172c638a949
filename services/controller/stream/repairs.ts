import type { NodeName } from '@octoplane/model/keys.ts';
import type { Clock } from '../clock.ts';
import type { Batch, ClassId, Views } from '../compute/batch.ts';
import { bucketAdjustments, ClassBuckets, differingBuckets, type Overrides } from './buckets.ts';
import type { PartBody } from './frame-bytes.ts';
import type { HeldBackEntries } from './held-back.ts';

/** Encodings outlive a herd of nodes that come back, and no more. */
const keepMs = 60_000;

/** Snapshots and bucket repairs, as of the head. What is encoded for them is given back a minute after the first use, and made again when needed. */
export class Repairs {
  readonly #views: Views;
  readonly #clock: Clock;
  readonly #classes = new Map<ClassId, ClassBuckets>();

  constructor(views: Views, clock: Clock) {
    this.#views = views;
    this.#clock = clock;
  }

  /** Keeps what is built up to date: its cost follows the change. */
  committed(batch: Batch): void {
    for (const [id, changes] of batch.classes) this.#classes.get(id)?.update(changes);
  }

  snapshot(node: NodeName, heldBack: HeldBackEntries): PartBody[] {
    return this.#bucketsOf(this.#views.classOf(node)).snapshot(this.#overrides(node, heldBack));
  }

  /** Only what differs from these bucket digests. */
  repair(node: NodeName, digests: Buffer, heldBack: HeldBackEntries): PartBody[] {
    const id = this.#views.classOf(node);
    const overrides = this.#overrides(node, heldBack);
    const adjustments = bucketAdjustments(this.#views.classRuleSet(id), overrides);
    const differing = differingBuckets(digests, this.#views.classSums(id), adjustments);
    return this.#bucketsOf(id).repair(differing, overrides);
  }

  #bucketsOf(id: ClassId): ClassBuckets {
    const known = this.#classes.get(id);
    if (known) return known;
    const made = new ClassBuckets(this.#views.classRuleSet(id));
    if (this.#classes.size === 0) this.#clock.after(keepMs, () => this.#classes.clear());
    this.#classes.set(id, made);
    return made;
  }

  #overrides(node: NodeName, heldBack: HeldBackEntries): Overrides {
    const overlay = this.#views.overlay(node);
    if (heldBack.size === 0) return overlay;
    const overrides = new Map(overlay);
    for (const [key, { entry }] of heldBack) overrides.set(key, entry);
    return overrides;
  }
}
