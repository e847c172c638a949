import { deltaFromProto, entryToProto } from '@octoplane/model/codec.ts';
import { applyChanges, changesOf, type EntryChange } from '@octoplane/model/delta.ts';
import { bucketOf, type Digest, DigestSums, digestFromBytes, digestToBytes } from '@octoplane/model/digest.ts';
import type { ServicePortChange } from '@octoplane/model/gen/octoplane/v1/rules.ts';
import {
  type Frame,
  type InputRevision,
  Nack_Reason,
  Nack_Stage,
  type Plan,
  type RefusedEntry,
  type StreamRequest,
  type StreamResponse,
  type Version,
} from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, emptyRuleSet, type RuleSet } from '@octoplane/model/rule-set.ts';

/** What a node holds, immutable, so that thousands of stubs share one. */
export interface Held {
  readonly ruleSet: RuleSet;
  readonly sums: DigestSums;
}

export const nothingHeld: Held = { ruleSet: emptyRuleSet, sums: new DigestSums() };

export interface StubNodeOptions {
  readonly name: NodeName;
  readonly zone?: string;
  readonly cluster?: string;
  /** Refuses entries as a driver would. */
  readonly refuse?: (change: EntryChange) => Nack_Reason | null;
  /** Default false: a refused frame names every entry at fault. True: the first alone, as a kernel does. */
  readonly namesOneRefusal?: boolean;
  /** Results shared by stubs of one process: thousands of nodes apply the same frame once. */
  readonly shared?: SharedResults;
}

type Outgoing = NonNullable<StreamRequest['message']>;

/**
 * The node's side of stream.proto with a map for a kernel. It checks whatever the protocol lets a node check, and throws
 * where the controller breaks it.
 */
export class StubNode {
  readonly name: NodeName;
  /** What the controller planned, over all streams. */
  readonly plans: Plan[] = [];
  /** Frames taken since the last Hello, whole. */
  frames = 0;
  receivedBytes = 0;
  held: Held = nothingHeld;
  version: Version | null = null;
  inputs: readonly InputRevision[] = [];
  /** Set by Move. */
  /** There was a Plan since the last Hello. */
  isPlanned = false;
  movedAway = false;
  readonly #options: StubNodeOptions;
  #parts: Frame[] = [];

  constructor(options: StubNodeOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get digest(): Digest {
    return this.held.sums.total;
  }

  /** The kernel state and the journal are gone. */
  wipe(): void {
    this.held = nothingHeld;
    this.version = null;
    this.inputs = [];
  }

  hello(): Outgoing {
    this.#parts = [];
    this.frames = 0;
    this.movedAway = false;
    this.isPlanned = false;
    return {
      $case: 'hello',
      value: {
        nodeName: this.name,
        release: 'stub',
        schema: 1,
        zone: this.#options.zone ?? '',
        cluster: this.#options.cluster ?? '',
        driver: 'stub',
        held: this.version ?? undefined,
        digest: this.version ? digestToBytes(this.digest) : Buffer.alloc(0),
        inputs: [...this.inputs],
        bootId: 'stub',
      },
    };
  }

  /** The answer, if there is one. */
  received({ message }: StreamResponse): Outgoing | null {
    if (message?.$case === 'plan') return this.#plan(message.value);
    if (message?.$case === 'frame') return this.#frame(message.value);
    if (message?.$case === 'move') this.movedAway = true;
    return null;
  }

  #plan(plan: Plan): Outgoing | null {
    if (this.#parts.length > 0) throw new Error(`${this.name}: a Plan within a frame`);
    this.plans.push(plan);
    this.isPlanned = true;
    if (plan.kind === 1) {
      if (mergedInputs(this.inputs, plan.inputs, true) === null)
        throw new Error(`${this.name}: a Plan of older input than is programmed`);
      this.version = plan.head ?? null;
      this.inputs = plan.inputs;
    }
    if (plan.kind !== 3) return null;
    return { $case: 'bucketDigests', value: { digests: this.held.sums.toBytes() } };
  }

  #frame(frame: Frame): Outgoing | null {
    const [first] = this.#parts;
    if (first && (first.to?.sequence !== frame.to?.sequence || first.from?.sequence !== frame.from?.sequence))
      throw new Error(`${this.name}: parts of different frames`);
    this.#parts.push(frame);
    if (frame.more) return null;
    const whole = assembled(this.#parts);
    this.#parts = [];
    return this.#take(whole);
  }

  #take(frame: Frame): Outgoing {
    const { from, to } = frame;
    if (!to) throw new Error(`${this.name}: a frame without a version`);
    const nack = (reason: Nack_Reason, message: string, entries: RefusedEntry[] = []): Outgoing => ({
      $case: 'nack',
      value: { refused: to, held: this.version ?? undefined, stage: Nack_Stage.VALIDATE, reason, message, entries },
    });
    if (!frame.repair && (from?.epoch !== this.version?.epoch || from?.sequence !== this.version?.sequence))
      return nack(Nack_Reason.WRONG_BASE, `${from?.sequence} is not ${this.version?.sequence}`);
    const inputs = mergedInputs(this.inputs, frame.inputs, frame.repair !== undefined);
    if (inputs === null) return nack(Nack_Reason.STALE_INPUT, 'older than what is programmed');
    const taken = this.#options.shared?.find(this.held, frame) ?? this.#apply(frame);
    const refused = this.#refused(taken.changes);
    if (refused.length > 0)
      return nack(Nack_Reason.CAPACITY, 'refused', this.#options.namesOneRefusal ? refused.slice(0, 1) : refused);
    if (taken.held.sums.total !== digestFromBytes(frame.digest))
      return nack(Nack_Reason.DIGEST_MISMATCH, 'another digest');
    this.#options.shared?.remember(this.held, frame, taken);
    this.held = taken.held;
    this.version = to;
    this.inputs = inputs;
    this.frames++;
    return {
      $case: 'ack',
      value: {
        epoch: to.epoch,
        received: to.sequence,
        validated: to.sequence,
        programmed: to.sequence,
        digest: frame.digest,
        durations: { validatedUs: 1, appliedUs: 1, readBackUs: 1 },
      },
    };
  }

  #apply(frame: Frame): Taken {
    const changes = frame.repair
      ? repairChanges(this.held.ruleSet, frame)
      : changesOf(this.held.ruleSet, deltaFromProto(frame.changes));
    const ruleSet = new Map(this.held.ruleSet);
    applyChanges(ruleSet, changes);
    const sums = this.held.sums.clone();
    for (const { before, after } of changes) sums.replace(before, after);
    return { held: { ruleSet, sums }, changes };
  }

  #refused(changes: readonly EntryChange[]): RefusedEntry[] {
    const { refuse } = this.#options;
    if (!refuse) return [];
    return changes.flatMap((change) => {
      const reason = refuse(change);
      const held: ServicePortChange | undefined = change.before ? entryToProto(change.before) : undefined;
      return reason === null ? [] : [{ key: change.key, reason, message: 'no room', held }];
    });
  }
}

interface Taken {
  readonly held: Held;
  readonly changes: readonly EntryChange[];
}

/** The result of the last few frames, for stubs that hold the same and are sent the same. */
export class SharedResults {
  readonly #taken: { readonly before: Held; readonly frame: Frame; readonly taken: Taken }[] = [];

  find(before: Held, frame: Frame): Taken | null {
    const known = this.#taken.find(
      (one) =>
        one.before === before &&
        one.frame.digest.equals(frame.digest) &&
        one.frame.to?.sequence === frame.to?.sequence &&
        one.frame.to?.epoch === frame.to?.epoch &&
        one.frame.changes.length === frame.changes.length,
    );
    return known?.taken ?? null;
  }

  remember(before: Held, frame: Frame, taken: Taken): void {
    if (this.find(before, frame)) return;
    this.#taken.unshift({ before, frame, taken });
    this.#taken.length = Math.min(this.#taken.length, 8);
  }
}

function assembled(parts: readonly Frame[]): Frame {
  const last = parts.at(-1);
  if (!last) throw new Error('a frame without parts');
  if (parts.length === 1) return last;
  const repair = last.repair && {
    all: last.repair.all,
    buckets: parts.flatMap((part) => part.repair?.buckets ?? []),
  };
  return { ...last, changes: parts.flatMap(({ changes }) => changes), repair };
}

function repairChanges(base: RuleSet, frame: Frame): EntryChange[] {
  const wanted = new Map<ServicePortKey, Entry>();
  applyChanges(wanted, changesOf(emptyRuleSet, deltaFromProto(frame.changes)));
  const buckets = new Set(frame.repair?.buckets);
  const isRepaired = (key: ServicePortKey) => frame.repair?.all === true || buckets.has(bucketOf(key));
  const changes: EntryChange[] = [];
  for (const [key, before] of base) if (isRepaired(key) && !wanted.has(key)) changes.push({ key, before, after: null });
  for (const [key, after] of wanted) {
    if (!isRepaired(key)) throw new Error(`${key} is not in a bucket of its repair`);
    changes.push({ key, before: base.get(key) ?? null, after });
  }
  return changes;
}

/** Null: the frame is older than what is programmed. */
function mergedInputs(
  held: readonly InputRevision[],
  named: readonly InputRevision[],
  isWhole: boolean,
): readonly InputRevision[] | null {
  const merged = new Map(isWhole ? [] : held.map((input) => [input.source, input]));
  for (const input of named) {
    const old = held.find(({ source }) => source === input.source);
    const incarnation = input.incarnation || old?.incarnation || '';
    if (old?.incarnation === incarnation && old.revision > input.revision) return null;
    merged.set(input.source, { ...input, incarnation });
  }
  return [...merged.values()];
}
