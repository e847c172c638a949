import type { Digest } from '@octoplane/model/digest.ts';
import type { NodeName } from '@octoplane/model/keys.ts';
import { viewEntry } from '../compute/view-entry.ts';
import type { Conflated } from '../history/conflate.ts';
import { type DeltaFrame, traceparentsOf } from './deltas.ts';
import { encodeFrame, seal } from './frame-bytes.ts';
import { digestWithout, type HeldBackEntries, stillHeldBack, withoutHeldBack } from './held-back.ts';
import type { Base, SessionContext } from './session-context.ts';

/** One frame for one node, ready to be written. */
export interface NextFrame {
  readonly to: number;
  /** What a delta changes; null for a repair. Empty: there is nothing to send. */
  readonly changes: Conflated | null;
  readonly messages: readonly Buffer[];
  /** Of the node's rule set afterwards. */
  readonly digest: Digest;
  readonly heldBack: HeldBackEntries;
}

type Making = Pick<SessionContext, 'views' | 'history' | 'deltas' | 'repairs'>;

/** From what the node holds to the head. Null: that takes a repair, and the node's bucket digests first. */
export function nextFrame(making: Making, node: NodeName, base: Base, heldBack: HeldBackEntries): NextFrame | null {
  if (base.t === 'unknown') return null;
  return base.t === 'version'
    ? deltaFrame(making, node, base.sequence, heldBack)
    : repairFrame(making, node, base.t === 'buckets' ? base.digests : null, heldBack);
}

function deltaFrame(making: Making, node: NodeName, from: number, held: HeldBackEntries): NextFrame | null {
  const { views, history, deltas } = making;
  const id = views.classOf(node);
  const shared = deltas.forNode(node, id, from);
  if (!shared) return null;
  const heldBack = stillHeldBack(held, (key) => viewEntry(views, node, key));
  const delta = held.size === 0 ? shared : rest(making, node, from, shared, held, heldBack);
  const digest = digestWithout(views, node, heldBack);
  const messages = delta.changes.size === 0 ? [] : delta.messages(digest);
  return { to: history.head, changes: delta.changes, messages, digest, heldBack };
}

function rest(
  { views, deltas }: Making,
  node: NodeName,
  from: number,
  shared: DeltaFrame,
  held: HeldBackEntries,
  still: HeldBackEntries,
): DeltaFrame {
  const changes = withoutHeldBack(shared.changes, held, still, (key) => viewEntry(views, node, key));
  return deltas.encode(changes, from, deltas.commitsSince(from));
}

function repairFrame(making: Making, node: NodeName, digests: Buffer | null, held: HeldBackEntries): NextFrame {
  const { views, history, repairs } = making;
  const heldBack = stillHeldBack(held, (key) => viewEntry(views, node, key));
  const bodies = digests ? repairs.repair(node, digests, heldBack) : repairs.snapshot(node, heldBack);
  const newest = history.at(history.head);
  const frame = encodeFrame(null, history.headVersion, bodies, {
    committedAtUs: newest?.committedAtUs ?? 0,
    traceparents: traceparentsOf(newest ? [newest] : []),
    inputs: history.inputs,
  });
  const digest = digestWithout(views, node, heldBack);
  return { to: history.head, changes: null, messages: seal(frame, digest), digest, heldBack };
}
