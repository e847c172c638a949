import { changesOf, DeltaError, type EntryChange } from '@octoplane/model/delta.ts';
import { bucketOf, type DigestSums, formatDigest } from '@octoplane/model/digest.ts';
import { Nack_Reason, Nack_Stage, type RefusedEntry } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import { entriesEqual, type RuleSet } from '@octoplane/model/rule-set.ts';
import type { Driver, RefusalReason } from '../drivers/driver.ts';
import { formatVersion, sameVersion, type WholeFrame } from './frame.ts';
import { type HeldRuleSet, staleInput } from './held.ts';

export type Verdict =
  | { readonly t: 'fit'; readonly changes: readonly EntryChange[]; readonly sums: DigestSums }
  | { readonly t: 'refused'; readonly refusal: FrameRefusal };

export interface FrameRefusal {
  readonly stage: Nack_Stage;
  readonly reason: Nack_Reason;
  readonly message: string;
  readonly entries: readonly EntryRefusal[];
}

export type EntryRefusal = Pick<RefusedEntry, 'key' | 'reason' | 'message'>;

/** Everything that stream.proto says a node checks before its kernel is touched. Touches nothing. */
export function validate(held: HeldRuleSet, frame: WholeFrame, driver: Pick<Driver, 'check'>): Verdict {
  if (frame.repair === null ? !sameVersion(frame.from, held.version) : !fitsRepair(frame, held))
    return refuse(
      Nack_Reason.WRONG_BASE,
      `the frame starts at version ${formatVersion(frame.from)}, this node holds ${formatVersion(held.version)}`,
    );
  const stale = staleInput(held.inputs, frame.inputs);
  if (stale)
    return refuse(
      Nack_Reason.STALE_INPUT,
      `source ${stale.held.source} is at revision ${stale.held.revision} here and at ${stale.offered.revision} in the frame`,
    );
  const invalid = [...frame.invalid, ...misplaced(frame)];
  if (invalid.length > 0)
    return refuse(
      Nack_Reason.INVALID_ENTRY,
      summary(invalid.map(({ key, message }) => (message.startsWith(key) ? message : `${key}: ${message}`))),
      invalid.map(({ key, message }) => ({ key, reason: Nack_Reason.INVALID_ENTRY, message })),
    );
  return checkChanges(held, frame, driver);
}

function checkChanges(held: HeldRuleSet, frame: WholeFrame, driver: Pick<Driver, 'check'>): Verdict {
  let changes: readonly EntryChange[];
  try {
    changes =
      frame.repair === null ? changesOf(held.ruleSet, frame.delta) : repairOf(held.ruleSet, frame, frame.repair);
  } catch (error) {
    if (!(error instanceof DeltaError)) throw error;
    // The digests would differ as well; this says where.
    return refuse(Nack_Reason.WRONG_BASE, error.message);
  }
  const sums = held.sums.clone();
  for (const { before, after } of changes) sums.replace(before, after);
  if (sums.total !== frame.digest)
    return refuse(
      Nack_Reason.DIGEST_MISMATCH,
      `the rule set after the frame has digest ${formatDigest(sums.total)}, the frame says ${
        frame.digest === null ? 'none' : formatDigest(frame.digest)
      }`,
    );
  const refusals = driver.check(changes);
  if (refusals.length > 0) {
    const entries = refusals.map(({ key, reason, message }) => ({ key, reason: nackReasonOf(reason), message }));
    return refuse(
      entries[0]?.reason ?? Nack_Reason.UNSPECIFIED,
      summary(refusals.map(({ key, message }) => `${key}: ${message}`)),
      entries,
    );
  }
  return { t: 'fit', changes, sums };
}

const fitsRepair = (frame: WholeFrame, held: HeldRuleSet): boolean =>
  frame.from.epoch === 0 || sameVersion(frame.from, held.version);

/** Entries of a repair that lie outside the buckets it speaks for. */
function misplaced(frame: WholeFrame): readonly { key: string; message: string }[] {
  const { repair } = frame;
  if (repair === null || repair === 'all') return [];
  return [...frame.delta.keys()]
    .filter((key) => !repair.has(bucketOf(key)))
    .map((key) => ({ key, message: 'is in none of the buckets that this repair describes' }));
}

/** @throws DeltaError for an entry without a header. */
function repairOf(held: RuleSet, frame: WholeFrame, buckets: ReadonlySet<number> | 'all'): readonly EntryChange[] {
  const changes: EntryChange[] = [];
  for (const { key, after } of changesOf(new Map(), frame.delta)) {
    const before = held.get(key) ?? null;
    if (!entriesEqual(before, after)) changes.push({ key, before, after: keepingIdentity(before, after) });
  }
  for (const [key, before] of held)
    if (!frame.delta.has(key) && (buckets === 'all' || buckets.has(bucketOf(key))))
      changes.push({ key, before, after: null });
  return changes;
}

/** An unchanged header stays the same object, so that its digest is not computed anew and its memory is shared. */
function keepingIdentity(before: Entry | null, after: Entry | null): Entry | null {
  if (before === null || after === null) return after;
  return entriesEqual({ ...before, endpoints: [] }, { ...after, endpoints: [] })
    ? { ...after, spec: before.spec }
    : after;
}

export const nackReasonOf = (reason: RefusalReason): Nack_Reason => reasons[reason];

const reasons: Readonly<Record<RefusalReason, Nack_Reason>> = {
  invalid: Nack_Reason.INVALID_ENTRY,
  capacity: Nack_Reason.CAPACITY,
  unsupported: Nack_Reason.UNSUPPORTED,
  kernel: Nack_Reason.KERNEL_REFUSED,
};

const refuse = (reason: Nack_Reason, message: string, entries: readonly EntryRefusal[] = []): Verdict => ({
  t: 'refused',
  refusal: { stage: Nack_Stage.VALIDATE, reason, message, entries },
});

/** The first few; all of them are in the entries. */
export function summary(messages: readonly string[], most = 3): string {
  const shown = messages.slice(0, most).join('; ');
  return messages.length > most ? `${shown}; and ${messages.length - most} more` : shown;
}
