import type { ReadableSpan } from '@opentelemetry/sdk-trace';
import type { Logger } from 'pino';
import type { Cancel, Clock } from '../clock.ts';
import type { EndedChange } from './change-trace.ts';
import type { OutboxSettings } from './settings.ts';

export interface OutboxOptions {
  readonly settings: OutboxSettings;
  readonly spansOf: (change: EndedChange) => readonly ReadableSpan[];
  readonly countOf: (change: EndedChange) => number;
  /** Rejects when the collector has not taken them. */
  readonly send: (spans: readonly ReadableSpan[]) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onCounted: (fate: SpanFate, spans: number) => void;
}

/** 'overflow': there was no room; 'failed': the collector did not take them. */
export type SpanFate = 'exported' | 'overflow' | 'failed';

/**
 * Traces on their way to the collector.
 *
 *   1. `offer` never waits. Nothing that streams or commits ever waits for the collector.
 *   2. Whole traces or nothing: one that does not fit is left out as a whole, and every span is counted once, under its fate.
 *   3. Memory is bounded, and spans are made when their batch is sent: while the collector is away nothing is computed for it.
 *   4. One batch is under way at a time. A collector that does not answer holds the others up, not us.
 *
 * Not OpenTelemetry's BatchSpanProcessor: that one takes spans one by one as they end, keeps 2,048, and drops half of a burst of 5,000.
 */
export class Outbox {
  readonly #options: OutboxOptions;
  readonly #waiting: EndedChange[] = [];
  #waitingSpans = 0;
  #sending: Promise<void> | null = null;
  #later: Cancel | null = null;
  #isFailing = false;

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  get waitingSpans(): number {
    return this.#waitingSpans;
  }

  offer(change: EndedChange): void {
    const { settings, countOf, clock, onCounted } = this.#options;
    const spans = countOf(change);
    if (this.#waitingSpans + spans > settings.maxSpans) {
      onCounted('overflow', spans);
      return;
    }
    this.#waiting.push(change);
    this.#waitingSpans += spans;
    if (this.#sending) return;
    if (this.#waitingSpans >= settings.batchSpans) this.#start();
    else this.#later ??= clock.after(settings.delayMs, () => this.#start());
  }

  /** Everything that waits is sent, or has failed. */
  async flush(): Promise<void> {
    while (this.#waiting.length > 0 || this.#sending) {
      this.#start();
      await this.#sending;
    }
  }

  #start(): void {
    this.#later?.();
    this.#later = null;
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = null;
    });
  }

  async #sendAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      // Nodes get their turn between two batches.
      await new Promise<void>((resolve) => setImmediate(resolve));
      const { changes, spans } = this.#nextBatch();
      try {
        await this.#sendOne(changes.flatMap(this.#options.spansOf));
        this.#counted('exported', spans);
      } catch (error) {
        this.#counted('failed', spans, error);
      }
    }
  }

  /** At least one change, and more as long as they fit. */
  #nextBatch(): { readonly changes: EndedChange[]; readonly spans: number } {
    const { settings, countOf } = this.#options;
    const changes: EndedChange[] = [];
    let spans = 0;
    for (const change of this.#waiting) {
      const count = countOf(change);
      if (spans > 0 && spans + count > settings.batchSpans) break;
      changes.push(change);
      spans += count;
    }
    this.#waiting.splice(0, changes.length);
    this.#waitingSpans -= spans;
    return { changes, spans };
  }

  async #sendOne(spans: readonly ReadableSpan[]): Promise<void> {
    const { settings, send, clock } = this.#options;
    const timeUp = Promise.withResolvers<never>();
    const stop = clock.after(settings.timeoutMs, () =>
      timeUp.reject(new Error(`no answer within ${settings.timeoutMs} ms`)),
    );
    try {
      await Promise.race([send(spans), timeUp.promise]);
    } finally {
      stop();
    }
  }

  /** Logs when the collector begins to fail, and when it is back: transitions, not batches. */
  #counted(fate: SpanFate, spans: number, error?: unknown): void {
    const { logger, onCounted } = this.#options;
    onCounted(fate, spans);
    if (fate === 'failed' && !this.#isFailing)
      logger.warn(
        { err: error, spans },
        'the trace collector does not take spans; what it refuses is dropped and counted',
      );
    if (fate === 'exported' && this.#isFailing) logger.info('the trace collector takes spans again');
    this.#isFailing = fate === 'failed';
  }
}
