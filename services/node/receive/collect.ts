import { deltaFromProto, InvalidEntryError } from '@octoplane/model/codec.ts';
import type { EntryDelta } from '@octoplane/model/delta.ts';
import { bucketCount, digestFromBytes } from '@octoplane/model/digest.ts';
import type { ServicePortChange } from '@octoplane/model/gen/octoplane/v1/rules.ts';
import type { Frame } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type InvalidEntry, noVersion, sameVersion, type WholeFrame } from '../reconcile/frame.ts';

export type Collected =
  | { readonly t: 'more' }
  | { readonly t: 'whole'; readonly frame: WholeFrame }
  /** The parts contradict one another or stream.proto; the stream ends. */
  | { readonly t: 'broken'; readonly message: string };

/**
 * Most bytes of one frame with all its parts. 256 MiB: a million endpoints take about 20, and a peer that never sends a last part must not
 * take the node's memory.
 */
export const mostFrameBytes = 256 << 20;

/**
 * Joins the parts of a frame. Each part is turned into the model's form as it comes, so that the wire form of a large
 * snapshot is never in memory as a whole. Entries that are not valid are all named, not the first one only: the controller
 * holds them back in one go.
 */
export class FrameCollector {
  readonly #delta = new Map<ServicePortKey, EntryDelta>();
  readonly #invalid: InvalidEntry[] = [];
  readonly #buckets = new Set<number>();
  #first: Frame | null = null;
  #all = false;
  #bytes = 0;

  add(part: Frame, bytes: number, nowUs: number): Collected {
    const broken = this.#contradiction(part, bytes);
    if (broken !== null) return { t: 'broken', message: broken };
    this.#first ??= part;
    this.#bytes += bytes;
    for (const change of part.changes) this.#take(change);
    if (part.repair?.all) this.#all = true;
    for (const bucket of part.repair?.buckets ?? []) this.#buckets.add(bucket);
    return part.more ? { t: 'more' } : { t: 'whole', frame: this.#whole(this.#first, part, nowUs) };
  }

  #contradiction(part: Frame, bytes: number): string | null {
    if (part.to === undefined || part.to.epoch === 0) return 'a frame without the version that it leads to';
    const first = this.#first ?? part;
    if (first.to && !sameVersion(first.to, part.to)) return 'parts of one frame that lead to different versions';
    if (!sameVersion(first.from ?? noVersion, part.from ?? noVersion))
      return 'parts of one frame that start at different versions';
    if ((first.repair === undefined) !== (part.repair === undefined)) return 'a frame that is partly a repair';
    if (this.#bytes + bytes > mostFrameBytes) return `a frame of more than ${mostFrameBytes} bytes`;
    const bucket = part.repair?.buckets.find((index) => index >= bucketCount);
    return bucket === undefined ? null : `bucket ${bucket}: there are ${bucketCount}`;
  }

  #take(change: ServicePortChange): void {
    try {
      for (const [key, delta] of deltaFromProto([change])) {
        if (this.#delta.has(key)) throw new InvalidEntryError(key, 'is named twice in one frame');
        this.#delta.set(key, delta);
      }
    } catch (error) {
      if (!(error instanceof InvalidEntryError)) throw error;
      this.#invalid.push({ key: error.key, message: error.message });
    }
  }

  #whole(first: Frame, last: Frame, nowUs: number): WholeFrame {
    return {
      from: first.from ?? noVersion,
      to: last.to ?? noVersion,
      delta: this.#delta,
      invalid: this.#invalid,
      repair: first.repair === undefined ? null : this.#all ? 'all' : this.#buckets,
      digest: digestFromBytes(last.digest),
      inputs: last.inputs,
      committedAtUs: last.committedAtUs,
      arrivedAtUs: nowUs,
    };
  }
}
