import type { EntryChange } from '@octoplane/model/delta.ts';
import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import { entriesEqual } from '@octoplane/model/rule-set.ts';
import type { Batch, ClassId, InputRevision, OverlayChange } from '../compute/batch.ts';
import type { Commit } from './history.ts';

/** What remains of a run of commits, one change per key: its first `before` and its last `after`. */
export type Conflated = ReadonlyMap<ServicePortKey, EntryChange>;

export function conflateClass(commits: readonly Commit[], id: ClassId): Conflated {
  const runs = new Map<ServicePortKey, OverlayChange>();
  for (const { batch } of commits) for (const change of batch.classes.get(id) ?? []) extend(runs, change);
  return settled(runs);
}

/** The same for one node's view: where a batch has a record of the node's own for a key, it masks the class-wide one. */
export function conflateView(commits: readonly Commit[], id: ClassId, node: NodeName): Conflated {
  const runs = new Map<ServicePortKey, OverlayChange>();
  for (const { batch } of commits) {
    const own = batch.overlays.get(node);
    const masked = own && new Set(own.map(({ key }) => key));
    for (const change of batch.classes.get(id) ?? []) if (!masked?.has(change.key)) extend(runs, change);
    for (const change of own ?? []) extend(runs, change);
  }
  return settled(runs);
}

/** Does the batch change this node's rule set? */
export function concerns(batch: Batch, node: NodeName, id: ClassId): boolean {
  if (batch.moved.includes(node)) return true;
  const own = batch.overlays.get(node);
  const wide = batch.classes.get(id);
  if (!own) return wide !== undefined;
  if (own.some(({ before, after }) => before !== after)) return true;
  return wide?.some(({ key }) => !own.some((mask) => mask.key === key)) ?? false;
}

/** Does the batch change this entry for this node, or may it, because the node moved? */
export function touches(batch: Batch, node: NodeName, id: ClassId, key: ServicePortKey): boolean {
  if (batch.moved.includes(node)) return true;
  const change = changeOf(batch, node, id, key);
  return change !== null && change.before !== change.after;
}

/** What the batch says of this entry for this node; null: nothing. */
export function changeOf(batch: Batch, node: NodeName, id: ClassId, key: ServicePortKey): OverlayChange | null {
  const isOfKey = (change: OverlayChange) => change.key === key;
  return batch.overlays.get(node)?.find(isOfKey) ?? batch.classes.get(id)?.find(isOfKey) ?? null;
}

/**
 * The inputs that a delta names (stream.proto, "Going back"): those that moved since its base, with the incarnation only where it is
 * another. An unknown base names everything.
 */
export function movedInputs(base: readonly InputRevision[] | null, head: readonly InputRevision[]): InputRevision[] {
  if (base === null) return [...head];
  const moved: InputRevision[] = [];
  for (const input of head) {
    const old = base.find(({ source }) => source === input.source);
    if (old?.incarnation !== input.incarnation) moved.push(input);
    else if (old.revision !== input.revision) moved.push({ ...input, incarnation: '' });
  }
  return moved;
}

/** The first source that `ours` has read less far than `theirs`, in the same incarnation. */
export function laggingInput(
  ours: readonly InputRevision[],
  theirs: readonly InputRevision[],
): { readonly source: string; readonly ours: number; readonly theirs: number } | null {
  for (const { source, incarnation, revision } of theirs) {
    const own = ours.find((input) => input.source === source && input.incarnation === incarnation);
    if (own && own.revision < revision) return { source, ours: own.revision, theirs: revision };
  }
  return null;
}

function extend(runs: Map<ServicePortKey, OverlayChange>, { key, before, after }: OverlayChange): void {
  const run = runs.get(key);
  runs.set(key, { key, before: run ? run.before : before, after });
}

function settled(runs: ReadonlyMap<ServicePortKey, OverlayChange>): Conflated {
  const changes = new Map<ServicePortKey, EntryChange>();
  for (const [key, { before, after }] of runs)
    if (!entriesEqual(before, after)) changes.set(key, { key, before, after });
  return changes;
}
