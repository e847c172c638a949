import type { Clock } from '../clock.ts';

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
    return new Promise((resolve) => {
      if (signal.aborted) {
        resolve();
        return;
      }
      const done = (): void => {
        cancel();
        signal.removeEventListener('abort', done);
        resolve();
      };
      const cancel = this.#clock.after(ms, done);
      signal.addEventListener('abort', done, { once: true });
    });
  }
}
