import { deltaToProto, entryToProto } from '@octoplane/model/codec.ts';
import { diff } from '@octoplane/model/delta.ts';
import { bucketOf, digestOf, digestToBytes } from '@octoplane/model/digest.ts';
import { Frame, type InputRevision, type Version } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { RuleSet } from '@octoplane/model/rule-set.ts';
import { FrameCollector } from '../receive/collect.ts';
import { noVersion, type WholeFrame } from '../reconcile/frame.ts';

/** Frames as a controller makes them. */

const blank = Frame.create();

interface Naming {
  readonly from?: Version;
  readonly to: Version;
  readonly inputs?: readonly InputRevision[];
}

export const deltaFrame = (before: RuleSet, after: RuleSet, naming: Naming): Frame => ({
  ...blank,
  from: naming.from ?? noVersion,
  to: naming.to,
  inputs: naming.inputs ?? [],
  changes: deltaToProto(diff(before, after)),
  digest: digestToBytes(digestOf(after)),
});

export const repairFrame = (after: RuleSet, naming: Naming, buckets: ReadonlySet<number> | 'all' = 'all'): Frame => ({
  ...blank,
  from: noVersion,
  to: naming.to,
  inputs: naming.inputs ?? [],
  changes: [...after.values()].filter(({ key }) => buckets === 'all' || buckets.has(bucketOf(key))).map(entryToProto),
  repair: { all: buckets === 'all', buckets: buckets === 'all' ? [] : [...buckets].toSorted((a, b) => a - b) },
  digest: digestToBytes(digestOf(after)),
});

/** Over the wire and back. */
export function received(...parts: readonly Frame[]): WholeFrame {
  const collector = new FrameCollector();
  for (const part of parts) {
    const bytes = Frame.encode(part).finish();
    const collected = collector.add(Frame.decode(bytes), bytes.length, 0);
    if (collected.t === 'whole') return collected.frame;
    if (collected.t === 'broken') throw new Error(collected.message);
  }
  throw new Error('the last part says that more will follow');
}
