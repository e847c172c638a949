import { entryToProto } from '@octoplane/model/codec.ts';
import type { EntryChange } from '@octoplane/model/delta.ts';
import { type Digest, digestToBytes } from '@octoplane/model/digest.ts';
import {
  type Ack,
  type InputRevision,
  type Nack,
  Nack_Reason,
  type Version,
} from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { traceIdOf } from '@octoplane/model/trace-id.ts';
import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import type { Driver } from '../drivers/driver.ts';
import { formatVersion, noVersion, type WholeFrame } from './frame.ts';
import type { HeldRuleSet } from './held.ts';
import { Kernel, type KernelState, type Resync } from './kernel.ts';
import type { ReconcileObserver } from './observer.ts';
import { Serial } from './serial.ts';
import { type FrameRefusal, validate } from './validate.ts';

export interface ReconcilerOptions {
  readonly driver: Driver;
  /** What the journal held, or nothing. The reconciler owns it from now on. */
  readonly held: HeldRuleSet;
  readonly journal: RuleSetJournal;
  /** Null for drivers that see to their flows themselves. */
  readonly flows: FlowCleaner | null;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly observer: ReconcileObserver;
}

export interface RuleSetJournal {
  commit(held: HeldRuleSet, changes: readonly EntryChange[]): Promise<void>;
  compact(held: HeldRuleSet): Promise<void>;
}

export interface FlowCleaner {
  /** Deletes the UDP flows that these changes have made stale. Does not fail: what cannot be deleted is logged and counted. */
  clean(changes: readonly EntryChange[]): Promise<void>;
}

/** What Hello says. */
export interface Summary {
  readonly version: Version;
  /** Null: nothing is held, or what is in the kernel is not known. */
  readonly digest: Digest | null;
  readonly inputs: readonly InputRevision[];
}

export type Answer = { readonly $case: 'ack'; readonly value: Ack } | { readonly $case: 'nack'; readonly value: Nack };

/**
 * The one owner of the held rule set and of the driver. Everything that touches either goes through one queue.
 *
 *   1. An ack means: the kernel holds the frame's rule set, and what the frame touched was read back from it.
 *   2. A refused frame leaves the last good state in the kernel.
 *   3. Nothing is programmed before a controller, or the journal of what one once sent, has said what belongs there (P43).
 *   4. Nothing is removed on exit.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #kernel: Kernel;
  readonly #serial = new Serial();
  #told: KernelState['t'] | null = null;
  readonly #firstInPlace = Promise.withResolvers<void>();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    const { clock, logger, observer: events } = options;
    this.#kernel = new Kernel(options.driver, { clock, logger, events });
  }

  /** Resolves once the kernel holds a rule set that a controller has sent. */
  get firstInPlace(): Promise<void> {
    return this.#firstInPlace.promise;
  }

  get kernelState(): KernelState {
    return this.#kernel.state;
  }

  /** Adopts what an earlier daemon left: kernel state that agrees with the journal is not touched, drift is repaired. */
  async start(): Promise<void> {
    const { held, logger, observer } = this.#options;
    if (!held.isKnown) {
      logger.info('no rule set on disk: the kernel is left as it is until a controller is in sync');
      return;
    }
    observer.committed(
      Array.from(held.ruleSet.values(), (after) => ({ key: after.key, before: null, after })),
      held,
    );
    await this.#serial.run(() => this.#adopt());
  }

  /** Waits for what is being programmed. */
  summary(): Promise<Summary> {
    return this.#serial.run(async () => {
      const { held } = this.#options;
      if (!held.isKnown || this.#kernel.state.t === 'unknown')
        return { version: noVersion, digest: null, inputs: held.inputs };
      return { version: held.version, digest: held.digest, inputs: held.inputs };
    });
  }

  bucketDigests(): Buffer {
    return this.#options.held.sums.toBytes();
  }

  /** The controller's name for what is held. */
  rename(version: Version, inputs: readonly InputRevision[]): Promise<void> {
    return this.#serial.run(async () => {
      const { held, journal } = this.#options;
      held.rename(version, inputs);
      await journal.commit(held, []);
    });
  }

  async program(frame: WholeFrame): Promise<Answer> {
    this.#options.observer.queued(frame);
    const answer = await this.#serial.run(() => this.#program(frame));
    // The ack does not wait for it, the next frame does.
    if (answer.$case === 'ack')
      this.#serial
        .run(() => this.#options.journal.compact(this.#options.held))
        .catch((error: unknown) => this.#unexpected(error));
    return answer;
  }

  /**
   * Reads the kernel and puts right what differs from what is held. A routine check is content when the driver says that nobody
   * was there. Does not fail: the kernel is then unknown.
   */
  checkDrift(why: string, kind: 'routine' | 'alarm' = 'alarm'): Promise<void> {
    return this.#serial.run(async () => {
      const { held, driver, logger, observer } = this.#options;
      if (!held.isKnown) return;
      const before = this.#kernel.state;
      if (kind === 'routine' && before.t === 'in-place' && driver.undisturbed?.()) return;
      const done = await this.#resync();
      if (done === null) return;
      const entries = done.changes.length;
      if (entries + done.pruned === 0 && before.t === 'in-place') return;
      logger.warn({ why, entries, objects: done.pruned }, 'the kernel differed from the rule set and was put right');
      observer.driftRepaired({ entries, objects: done.pruned });
    });
  }

  /** When everything given so far has ended. */
  idle(): Promise<void> {
    return this.#serial.idle();
  }

  async #adopt(): Promise<void> {
    const { held, logger } = this.#options;
    const version = formatVersion(held.version);
    const done = await this.#resync();
    if (done === null) return;
    if (done.changes.length + done.pruned === 0)
      logger.info({ version }, 'the kernel holds the rule set of the journal: adopted as it is');
    else
      logger.info(
        { version, entries: done.changes.length, objects: done.pruned },
        'the kernel was brought to the rule set of the journal',
      );
  }

  /** Null: it failed, and the kernel is unknown. */
  async #resync(): Promise<Resync | null> {
    const { held, logger, flows } = this.#options;
    try {
      const done = await this.#kernel.resync(held.ruleSet);
      await flows?.clean(done.changes);
      this.#noteState();
      return done;
    } catch (error) {
      logger.error({ err: error }, 'the kernel could not be read or corrected; it is left as it is and tried again');
      this.#noteState();
      return null;
    }
  }

  async #program(frame: WholeFrame): Promise<Answer> {
    const { held, driver, clock, logger, observer } = this.#options;
    const verdict = validate(held, frame, driver);
    if (verdict.t === 'refused') return this.#refuse(frame, verdict.refusal);
    const validatedAtUs = clock.monotonicUs();
    const before = this.#kernel.state;
    const outcome = await this.#kernel.program(verdict.changes, held.ruleSet, held.isKnown ? held.ruleSet : null);
    this.#noteState();
    if (outcome.t === 'refused') return this.#refuse(frame, outcome.refusal);
    held.commit(verdict.changes, verdict.sums, frame);
    observer.committed(verdict.changes, held);
    if (before.t === 'unknown') logger.info({ ...named(frame.to), entries: held.ruleSet.size }, 'rule set in place');
    this.#firstInPlace.resolve();
    await this.#options.flows?.clean(outcome.changes);
    await this.#options.journal.commit(held, verdict.changes);
    observer.programmed({
      changes: verdict.changes,
      full: outcome.full,
      durationUs: outcome.readBackAtUs - frame.arrivedAtUs,
      committedAtUs: frame.committedAtUs,
    });
    const { epoch, sequence } = frame.to;
    return {
      $case: 'ack',
      value: {
        epoch,
        received: sequence,
        validated: sequence,
        programmed: sequence,
        digest: digestToBytes(held.digest),
        durations: {
          validatedUs: validatedAtUs - frame.arrivedAtUs,
          appliedUs: outcome.appliedAtUs - frame.arrivedAtUs,
          readBackUs: outcome.readBackAtUs - frame.arrivedAtUs,
        },
      },
    };
  }

  #refuse(frame: WholeFrame, refusal: FrameRefusal): Answer {
    const { held, logger, observer } = this.#options;
    const reason = reasonName(refusal.reason);
    logger.warn({ ...named(frame.to), reason, entries: refusal.entries.length }, `frame refused: ${refusal.message}`);
    observer.refused(refusal);
    const entries = refusal.entries.map((entry) => {
      // A controller that repairs does not know what this node has; to hold the entry back at that, it must.
      const has = frame.repair === null ? undefined : held.ruleSet.get(entry.key as ServicePortKey);
      return { ...entry, held: has && entryToProto(has) };
    });
    return { $case: 'nack', value: { ...refusal, refused: frame.to, held: held.version, entries } };
  }

  #noteState(): void {
    const { state } = this.#kernel;
    if (state.t === 'in-place' && this.#options.held.isKnown) this.#firstInPlace.resolve();
    if (state.t === this.#told) return;
    this.#told = state.t;
    this.#options.observer.kernelState(state);
  }

  #unexpected(error: unknown): void {
    this.#options.logger.error({ err: error }, 'compaction of the journal failed');
  }
}

/** A version in a log line, with the trace that the controller's lines have too. */
const named = (version: Version) => ({ version: formatVersion(version), trace: traceIdOf(version) });

const reasonName = (reason: Nack_Reason): string =>
  Object.entries(Nack_Reason).find(([, number]) => number === reason)?.[0] ?? String(reason);
