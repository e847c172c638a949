import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import type { LossGuardOptions } from './loss-guard.ts';
import { LossHold } from './loss-hold.ts';
import { ObjectTable, type ReadObject } from './object-table.ts';
import type { Claim, SourceEvent } from './source.ts';

/** A key and what it says. */
export interface Reading {
  readonly key: string;
  readonly revision: number;
  readonly read: ReadObject;
}

export interface NarratorOptions {
  readonly logger: Logger;
  readonly clock: Clock;
  /** What is taken for an accident when everything is listed again. */
  readonly lossGuard: LossGuardOptions;
  /** What was held back has lasted: time to call `tell` again. */
  readonly onHoldOver: () => void;
}

/** Lines in the log for one round. */
const maxRemarks = 50;

/**
 * What a source that lists and watches keys tells of them, wherever they are kept: the difference to what it told before, what it refuses, what
 * it holds back, and whether it is in sync.
 */
export class Narrator {
  readonly table = new ObjectTable();
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #hold: LossHold;
  /** Keys that a list did not have, kept for now, with the revision of the list. */
  readonly #missing = new Map<string, number>();
  #stale: string | null = null;

  constructor({ logger, clock, lossGuard, onHoldOver }: NarratorOptions) {
    this.#logger = logger;
    this.#clock = clock;
    this.#hold = new LossHold(lossGuard, clock, onHoldOver);
  }

  get isStale(): boolean {
    return this.#stale !== null;
  }

  put(readings: readonly Reading[]): readonly SourceEvent[] {
    const observedAtUs = this.#clock.nowUs();
    let remarks = 0;
    const remark = (key: string, text: string): void => {
      if (++remarks <= maxRemarks) this.#logger.warn(`${key}: ${text}`);
    };
    const events: SourceEvent[] = [];
    for (const { key, revision, read } of readings) {
      this.#missing.delete(key);
      if (read.t === 'refused') remark(key, read.reason);
      else for (const text of read.remarks) remark(key, text);
      for (const event of this.table.put(key, revision, read, observedAtUs)) events.push(event);
    }
    if (remarks > maxRemarks) this.#logger.warn(`and ${remarks - maxRemarks} more remarks`);
    return events;
  }

  remove(key: string, revision: number): readonly SourceEvent[] {
    this.#missing.delete(key);
    return this.table.remove(key, revision, this.#clock.nowUs());
  }

  /** A list is complete: keys of its range that it did not have are gone, or missing. */
  listed(present: ReadonlySet<string>, isInRange: (key: string) => boolean, revision: number): void {
    for (const key of this.table.keys) {
      if (!isInRange(key)) continue;
      if (present.has(key)) this.#missing.delete(key);
      else this.#missing.set(key, revision);
    }
  }

  /** Removes what lists did not have, unless that looks like an accident. */
  letGo(): readonly SourceEvent[] {
    const objects = Array.from(this.#missing.keys()).flatMap((key) => this.table.toldOf(key) ?? []);
    if (
      this.#hold.judge(
        this.table.told,
        objects.map((object) => ({ object })),
      )
    )
      return [];
    const observedAtUs = this.#clock.nowUs();
    const events = Array.from(this.#missing, ([key, revision]) =>
      this.table.remove(key, revision, observedAtUs),
    ).flat();
    this.#missing.clear();
    return events;
  }

  /** Events, and behind them what the source says of itself. `claim`: null before it has been in sync; `stale`: why it sees nothing. */
  tell(
    events: readonly SourceEvent[],
    state: { readonly claim: Claim | null; readonly stale: string | null },
    emit: (events: readonly SourceEvent[]) => void,
  ): void {
    const observedAtUs = this.#clock.nowUs();
    const stale = state.stale ?? this.#hold.reason;
    if (stale !== null) {
      const isNews = this.#stale !== stale;
      if (isNews) this.#logger.warn(stale);
      this.#stale = stale;
      const last: SourceEvent[] = isNews ? [{ t: 'stale', reason: stale, observedAtUs }] : [];
      if (events.length + last.length > 0) emit([...events, ...last]);
      return;
    }
    if (state.claim === null) {
      if (events.length > 0) emit(events);
      return;
    }
    if (this.#stale !== null) this.#logger.info('the source is in sync again');
    this.#stale = null;
    const { incarnation, revision, parts } = state.claim;
    emit([...events, { t: 'synced', incarnation, revision, ...(parts && { parts }), observedAtUs }]);
  }

  close(): void {
    this.#hold.close();
  }
}
