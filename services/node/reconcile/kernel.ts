import { applyChanges, type EntryChange } from '@octoplane/model/delta.ts';
import { Nack_Reason, Nack_Stage } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { RuleSet } from '@octoplane/model/rule-set.ts';
import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import { type Driver, DriverError, type Mismatch } from '../drivers/driver.ts';
import { driftOf } from './drift.ts';
import type { FrameRefusal } from './validate.ts';
import { nackReasonOf, summary } from './validate.ts';

/** What is known of the kernel. `unknown`: it may differ from what is held; nothing is said about it until a resync. */
export type KernelState = { readonly t: 'in-place' } | { readonly t: 'unknown'; readonly why: string };

export type Outcome =
  | {
      readonly t: 'programmed';
      /** What was really changed; after a full sync, relative to what the kernel had. */
      readonly changes: readonly EntryChange[];
      readonly full: boolean;
      /** On the monotonic clock. */
      readonly appliedAtUs: number;
      readonly readBackAtUs: number;
    }
  | { readonly t: 'refused'; readonly refusal: FrameRefusal };

export interface KernelEvents {
  fullSync(why: string): void;
  /** All that is in the kernel was read, so many entries. */
  dumped(entries: number): void;
  /** `full`: in the course of a full resync. */
  failed(step: FailedStep, full: boolean): void;
}

export type FailedStep = 'apply' | 'readBack' | 'dump' | 'prune';

/**
 * The driver, with the rules for when it fails:
 *   1. a clean refusal of named entries leaves everything as it was, and is passed on;
 *   2. any other failure makes the kernel unknown, and a full resync to the wanted rule set is tried: books that went
 *      wrong, or an object that somebody removed, are healed by that;
 *   3. when that fails too, a resync to what was held puts the last good state back;
 *   4. when even that fails, the kernel stays unknown, and `recover` is tried until it succeeds.
 * A dump that fails is never taken for an empty kernel: nothing is written before the kernel has been read.
 */
export class Kernel {
  readonly #driver: Driver;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #events: KernelEvents;
  #state: KernelState = { t: 'unknown', why: 'not read yet' };

  constructor(driver: Driver, deps: { readonly clock: Clock; readonly logger: Logger; readonly events: KernelEvents }) {
    this.#driver = driver;
    this.#clock = deps.clock;
    this.#logger = deps.logger;
    this.#events = deps.events;
  }

  get state(): KernelState {
    return this.#state;
  }

  /** `held`: what to go back to; null when nothing is known that would be better than what is there. */
  async program(changes: readonly EntryChange[], base: RuleSet, held: RuleSet | null): Promise<Outcome> {
    if (this.#state.t === 'unknown') return this.#fullSync(this.#state.why, changes, base, held);
    try {
      await this.#driver.apply(changes);
    } catch (cause) {
      const failure = failureOf('apply', cause);
      this.#events.failed('apply', false);
      if (!failure.error.torn && failure.error.refusals.length > 0) return refusedFor(failure);
      return this.#afterFailure(failure, changes, base, held);
    }
    const appliedAtUs = this.#clock.monotonicUs();
    try {
      requireNone(await this.#driver.readBack(changes));
    } catch (cause) {
      this.#events.failed('readBack', false);
      return this.#afterFailure(failureOf('readBack', cause), changes, base, held);
    }
    return { t: 'programmed', changes, full: false, appliedAtUs, readBackAtUs: this.#clock.monotonicUs() };
  }

  /** Reads the kernel and corrects what differs. @throws Failure, with the kernel unknown */
  async resync(wanted: RuleSet): Promise<Resync> {
    let step: FailedStep = 'dump';
    try {
      const found = await this.#driver.dump();
      this.#events.dumped(found.size);
      const changes = driftOf(this.#driver, found, wanted);
      step = 'apply';
      if (changes.length > 0) await this.#driver.apply(changes);
      const appliedAtUs = this.#clock.monotonicUs();
      step = 'readBack';
      if (changes.length > 0) requireNone(await this.#driver.readBack(changes));
      const readBackAtUs = this.#clock.monotonicUs();
      step = 'prune';
      const pruned = await this.#driver.prune(wanted);
      this.#state = { t: 'in-place' };
      return { changes, pruned, appliedAtUs, readBackAtUs };
    } catch (cause) {
      this.#events.failed(step, true);
      const failure = failureOf(step, cause);
      this.#state = { t: 'unknown', why: failure.message };
      throw failure;
    }
  }

  async #afterFailure(
    failure: Failure,
    changes: readonly EntryChange[],
    base: RuleSet,
    held: RuleSet | null,
  ): Promise<Outcome> {
    this.#state = { t: 'unknown', why: failure.message };
    this.#logger.warn({ err: failure.error, step: failure.step }, 'the driver failed');
    if (failure.error.refusals.length > 0) return this.#restore(failure, held);
    return this.#fullSync(failure.message, changes, base, held);
  }

  async #fullSync(why: string, changes: readonly EntryChange[], base: RuleSet, held: RuleSet | null): Promise<Outcome> {
    this.#events.fullSync(why);
    const target = new Map(base);
    applyChanges(target, changes);
    try {
      const { pruned: _, ...done } = await this.resync(target);
      return { t: 'programmed', full: true, ...done };
    } catch (failure) {
      return this.#restore(asFailure(failure), held);
    }
  }

  async #restore(failure: Failure, held: RuleSet | null): Promise<Outcome> {
    if (held !== null) {
      this.#events.fullSync(`back to the last good rule set: ${failure.message}`);
      try {
        await this.resync(held);
      } catch (error) {
        this.#logger.error(
          { err: asFailure(error).error },
          'the last good rule set could not be put back; it will be tried again',
        );
      }
    }
    return refusedFor(failure);
  }
}

export interface Resync {
  readonly changes: readonly EntryChange[];
  /** Objects of ours that belonged to no entry, and parts of the frame that were missing. */
  readonly pruned: number;
  readonly appliedAtUs: number;
  readonly readBackAtUs: number;
}

/** A step of the driver that failed, or read back something else than was written. */
export class Failure extends Error {
  override readonly name = 'Failure';
  readonly step: FailedStep;
  readonly error: DriverError;
  readonly mismatches: readonly Mismatch[];
  constructor(step: FailedStep, error: DriverError, mismatches: readonly Mismatch[] = []) {
    super(`${step}: ${error.message}`, { cause: error });
    this.step = step;
    this.error = error;
    this.mismatches = mismatches;
  }
}

class ReadBackDiffers extends Error {
  readonly mismatches: readonly Mismatch[];
  constructor(mismatches: readonly Mismatch[]) {
    super(summary(mismatches.map(({ key, message }) => `${key} ${message}`)));
    this.mismatches = mismatches;
  }
}

function requireNone(mismatches: readonly Mismatch[]): void {
  if (mismatches.length > 0) throw new ReadBackDiffers(mismatches);
}

function failureOf(step: FailedStep, cause: unknown): Failure {
  if (cause instanceof DriverError) return new Failure(step, cause);
  const message = cause instanceof Error ? cause.message : String(cause);
  // Whatever a driver throws that it has not translated may have happened anywhere: the kernel cannot be trusted.
  const error = new DriverError(message, { torn: true, cause });
  return new Failure(step, error, cause instanceof ReadBackDiffers ? cause.mismatches : []);
}

const asFailure = (error: unknown): Failure => (error instanceof Failure ? error : failureOf('apply', error));

function refusedFor(failure: Failure): Outcome {
  const { error, mismatches } = failure;
  const entries = [
    ...error.refusals.map(({ key, reason, message }) => ({ key, reason: nackReasonOf(reason), message })),
    ...mismatches.map(({ key, message }) => ({ key, reason: Nack_Reason.READ_BACK_DIFFERS, message })),
  ];
  return {
    t: 'refused',
    refusal: {
      stage: failure.step === 'readBack' ? Nack_Stage.READ_BACK : Nack_Stage.APPLY,
      reason: entries[0]?.reason ?? Nack_Reason.KERNEL_REFUSED,
      message: failure.message,
      entries,
    },
  };
}
