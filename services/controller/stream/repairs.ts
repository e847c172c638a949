import type { NodeName } from '@octoplane/model/keys.ts';
import type { Batch, ClassId, Views } from '../compute/batch.ts';
import { bucketAdjustments, ClassBuckets, differingBuckets, type Overrides } from './buckets.ts';
import type { PartBody } from './frame-bytes.ts';
import type { HeldBackEntries } from './held-back.ts';

/** Snapshots and bucket repairs, as of the head. */
export class Repairs {
  readonly #views: Views;
  readonly #classes = new Map<ClassId, ClassBuckets>();

  constructor(views: Views) {
    this.#views = views;
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

  /** Gives back the memory of encodings; they are made again when needed. */
  forgetEncodings(): void {
    this.#classes.clear();
  }

  #bucketsOf(id: ClassId): ClassBuckets {
    const known = this.#classes.get(id);
    if (known) return known;
    const made = new ClassBuckets(this.#views.classRuleSet(id));
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
