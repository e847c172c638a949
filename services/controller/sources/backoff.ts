import { type Clock, pause } from '../clock.ts';

const firstMs = 50;
const mostMs = 5_000;

/** Waits between attempts: doubling, with full jitter, so that replicas do not come back together. */
export class Backoff {
  readonly #clock: Clock;
  #nextMs = firstMs;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Something worked. */
  reset(): void {
    this.#nextMs = firstMs;
  }

  /** Resolves when it is time to try again, no sooner than `atLeastMs`, or the signal aborts. */
  wait(signal: AbortSignal, atLeastMs = 0): Promise<void> {
    const ms = atLeastMs + Math.random() * this.#nextMs;
    this.#nextMs = Math.min(this.#nextMs * 2, mostMs);
    return pause(this.#clock, ms, signal);
  }
}
