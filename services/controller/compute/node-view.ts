import { type Digest, wrap } from '@octoplane/model/digest.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { ClassId } from './batch.ts';

/** What one node has otherwise than its class. */
export class NodeView {
  readonly classId: ClassId;
  /** Null: the class has the entry and this node has not. */
  readonly entries = new Map<ServicePortKey, Entry | null>();
  readonly #differences = new Map<ServicePortKey, Digest>();
  #difference: Digest = 0n;

  constructor(classId: ClassId) {
    this.classId = classId;
  }

  /** What the overlay adds to the digest of the class. */
  get difference(): Digest {
    return this.#difference;
  }

  hold(key: ServicePortKey, entry: Entry | null, difference: Digest): void {
    this.entries.set(key, entry);
    this.#difference = wrap(this.#difference - (this.#differences.get(key) ?? 0n) + difference);
    this.#differences.set(key, difference);
  }

  drop(key: ServicePortKey): void {
    if (!this.entries.delete(key)) return;
    this.#difference = wrap(this.#difference - (this.#differences.get(key) ?? 0n));
    this.#differences.delete(key);
  }
}
