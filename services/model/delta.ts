import type { ServicePortKey } from './keys.ts';
import {
  compareEndpoints,
  type Endpoint,
  type EndpointId,
  type Entry,
  entriesEqual,
  type RuleSet,
  type ServicePortSpec,
  specsEqual,
} from './rule-set.ts';

/**
 * What takes one rule set to another, at endpoint granularity: this is what travels, and a delta of one endpoint is a
 * few dozen bytes however large its service is.
 *
 * Laws (delta.test.ts): apply(a, diff(a, b)) = b; diff(a, a) is empty; applying is a function of the keys named alone.
 */
export type Delta = ReadonlyMap<ServicePortKey, EntryDelta>;

export type EntryDelta =
  | { readonly t: 'removed' }
  | {
      readonly t: 'changed';
      /** The new header, or null when it stays. */
      readonly spec: ServicePortSpec | null;
      /** New, or with other flags; ascending. */
      readonly upserted: readonly Endpoint[];
      /** Ascending. */
      readonly removed: readonly EndpointId[];
    };

/** One entry before and after: what a driver is asked to bring about, and what the history keeps. Never null on both sides. */
export interface EntryChange {
  readonly key: ServicePortKey;
  readonly before: Entry | null;
  readonly after: Entry | null;
}

/** A delta names a base that is not there, or contradicts itself. */
export class DeltaError extends Error {
  override readonly name = 'DeltaError';
  readonly key: ServicePortKey;
  constructor(key: ServicePortKey, message: string) {
    super(`${key}: ${message}`);
    this.key = key;
  }
}

/** Null when both sides are equal. */
export function diffEntry(before: Entry | null, after: Entry | null): EntryDelta | null {
  if (entriesEqual(before, after)) return null;
  if (after === null) return { t: 'removed' };
  const { upserted, removed } = diffEndpoints(before?.endpoints ?? [], after.endpoints);
  const spec = before !== null && specsEqual(before.spec, after.spec) ? null : after.spec;
  return { t: 'changed', spec, upserted, removed };
}

/** One walk over both ascending lists. */
export function diffEndpoints(
  before: readonly Endpoint[],
  after: readonly Endpoint[],
): { readonly upserted: Endpoint[]; readonly removed: Endpoint[] } {
  const upserted: Endpoint[] = [];
  const removed: Endpoint[] = [];
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    const a = before[i];
    const b = after[j];
    const order = a === undefined ? 1 : b === undefined ? -1 : compareEndpoints(a, b);
    if (order <= 0) i++;
    if (order >= 0) j++;
    if (order < 0 && a) removed.push(a);
    else if (order > 0 && b) upserted.push(b);
    else if (a && b && a.flags !== b.flags) upserted.push(b);
  }
  return { upserted, removed };
}

/** The changes between two rule sets, in no particular order. */
export function* changesBetween(before: RuleSet, after: RuleSet): Generator<EntryChange> {
  for (const [key, entry] of before) {
    const next = after.get(key) ?? null;
    if (!entriesEqual(entry, next)) yield { key, before: entry, after: next };
  }
  for (const [key, entry] of after) if (!before.has(key)) yield { key, before: null, after: entry };
}

export function deltaOf(changes: Iterable<EntryChange>): Delta {
  const delta = new Map<ServicePortKey, EntryDelta>();
  for (const change of changes) {
    const entryDelta = diffEntry(change.before, change.after);
    if (entryDelta) delta.set(change.key, entryDelta);
  }
  return delta;
}

export const diff = (before: RuleSet, after: RuleSet): Delta => deltaOf(changesBetween(before, after));

/**
 * What a delta changes in a rule set, without changing it.
 * @throws DeltaError where the delta does not fit: an endpoint removed that is not there, or a new entry without a header.
 */
export function changesOf(base: RuleSet, delta: Delta): EntryChange[] {
  const changes: EntryChange[] = [];
  for (const [key, entryDelta] of delta) {
    const before = base.get(key) ?? null;
    const after = applyEntry(key, before, entryDelta);
    if (!entriesEqual(before, after)) changes.push({ key, before, after });
  }
  return changes;
}

/** A new rule set; the base stays as it is. */
export function apply(base: RuleSet, delta: Delta): RuleSet {
  const next = new Map(base);
  applyChanges(next, changesOf(base, delta));
  return next;
}

/** In place, for who owns the map. */
export function applyChanges(ruleSet: Map<ServicePortKey, Entry>, changes: Iterable<EntryChange>): void {
  for (const { key, after } of changes) {
    if (after === null) ruleSet.delete(key);
    else ruleSet.set(key, after);
  }
}

function applyEntry(key: ServicePortKey, before: Entry | null, delta: EntryDelta): Entry | null {
  if (delta.t === 'removed') {
    if (before === null) throw new DeltaError(key, 'is removed but not held');
    return null;
  }
  const spec = delta.spec ?? before?.spec;
  if (spec === undefined) throw new DeltaError(key, 'is new but has no header');
  return { key, spec, endpoints: mergeEndpoints(key, before?.endpoints ?? [], delta.upserted, delta.removed) };
}

function mergeEndpoints(
  key: ServicePortKey,
  base: readonly Endpoint[],
  upserted: readonly Endpoint[],
  removed: readonly EndpointId[],
): readonly Endpoint[] {
  if (upserted.length === 0 && removed.length === 0) return base;
  const merged: Endpoint[] = [];
  let u = 0;
  let r = 0;
  for (const endpoint of base) {
    for (let next = upserted[u]; next && compareEndpoints(next, endpoint) < 0; next = upserted[++u]) merged.push(next);
    const replacement = upserted[u];
    const gone = removed[r];
    if (replacement && compareEndpoints(replacement, endpoint) === 0) {
      merged.push(replacement);
      u++;
    } else if (gone && compareEndpoints(gone, endpoint) === 0) {
      r++;
    } else {
      merged.push(endpoint);
    }
  }
  merged.push(...upserted.slice(u));
  const missing = removed[r];
  if (missing) throw new DeltaError(key, `endpoint ${missing.ip} port ${missing.port} is removed but not held`);
  return merged;
}
