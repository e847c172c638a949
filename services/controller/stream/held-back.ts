import { deltaFromProto } from '@octoplane/model/codec.ts';
import { apply, type EntryChange } from '@octoplane/model/delta.ts';
import { type Digest, entryDifference, wrap } from '@octoplane/model/digest.ts';
import type { RefusedEntry } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, emptyRuleSet, entriesEqual } from '@octoplane/model/rule-set.ts';
import type { Views } from '../compute/batch.ts';
import { viewEntry } from '../compute/view-entry.ts';
import type { Conflated } from '../history/conflate.ts';

/** An entry that a node refused: its frames leave it out until its view's is another. */
export interface HeldBack {
  /** What the node has instead; null: nothing. */
  readonly entry: Entry | null;
  /** What was refused; null: its removal. */
  readonly refused: Entry | null;
}

export type HeldBackEntries = ReadonlyMap<ServicePortKey, HeldBack>;

export const nothingHeldBack: HeldBackEntries = new Map();

/** The digest that the node ends with: its view's, but for what is held back. */
export function digestWithout(views: Views, node: NodeName, heldBack: HeldBackEntries): Digest {
  let digest = views.viewDigest(node);
  for (const [key, { entry }] of heldBack) digest += entryDifference(viewEntry(views, node, key), entry);
  return wrap(digest);
}

/** Those held back that are still what was refused; the others are to be tried again. */
export function stillHeldBack(
  heldBack: HeldBackEntries,
  entryOf: (key: ServicePortKey) => Entry | null,
): HeldBackEntries {
  if (heldBack.size === 0) return nothingHeldBack;
  const isStill = (key: ServicePortKey, { entry, refused }: HeldBack) => {
    const wanted = entryOf(key);
    return entriesEqual(wanted, refused) && !entriesEqual(wanted, entry);
  };
  return new Map([...heldBack].filter(([key, held]) => isStill(key, held)));
}

/** A delta without what is still held back; entries tried again start from what the node has. */
export function withoutHeldBack(
  changes: Conflated,
  held: HeldBackEntries,
  still: HeldBackEntries,
  entryOf: (key: ServicePortKey) => Entry | null,
): Conflated {
  const rest = new Map<ServicePortKey, EntryChange>();
  for (const [key, change] of changes) if (!held.has(key)) rest.set(key, change);
  for (const [key, { entry }] of held) {
    const after = entryOf(key);
    if (!still.has(key) && !entriesEqual(entry, after)) rest.set(key, { key, before: entry, after });
  }
  return rest;
}

/** What a node says it has for an entry that it refused; null for nothing, or for what is not an entry. */
export function heldEntry({ key, held }: RefusedEntry): Entry | null {
  if (!held || held.key !== key || held.removed) return null;
  try {
    return apply(emptyRuleSet, deltaFromProto([held])).get(key as ServicePortKey) ?? null;
  } catch {
    // The node knows no better: the entry counts as absent, and the next repair finds out what is true.
    return null;
  }
}
