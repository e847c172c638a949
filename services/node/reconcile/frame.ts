import type { Delta } from '@octoplane/model/delta.ts';
import type { Digest } from '@octoplane/model/digest.ts';
import type { InputRevision, Version } from '@octoplane/model/gen/octoplane/v1/stream.ts';

/** A frame that has arrived whole: the parts of a repair are joined, its entries are in the form of the model. */
export interface WholeFrame {
  readonly from: Version;
  readonly to: Version;
  /** In a repair, entries as a whole: each a header and all its endpoints. */
  readonly delta: Delta;
  /** Entries that are not in canonical form; they are not in `delta`. */
  readonly invalid: readonly InvalidEntry[];
  /** Buckets that `delta` describes as a whole; null: the frame is a delta. */
  readonly repair: ReadonlySet<number> | 'all' | null;
  /** Of the rule set after the frame; null when what arrived is not one. */
  readonly digest: Digest | null;
  readonly inputs: readonly InputRevision[];
  /** Microseconds since 1970 on the controller's clock. */
  readonly committedAtUs: number;
  /** Microseconds of this node's monotonic clock. */
  readonly arrivedAtUs: number;
}

export interface InvalidEntry {
  readonly key: string;
  readonly message: string;
}

export const noVersion: Version = { epoch: 0, sequence: 0 };

export const sameVersion = (a: Version, b: Version): boolean => a.epoch === b.epoch && a.sequence === b.sequence;

export const formatVersion = (version: Version): string => `${version.epoch}.${version.sequence}`;
