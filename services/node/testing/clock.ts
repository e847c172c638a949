import type { Clock } from '../clock.ts';

/** A clock that stands still until it is moved. */
export class FakeClock implements Clock {
  #nowMs = Date.UTC(2026, 0, 1);
  readonly #timers = new Set<{ readonly atMs: number; readonly fire: () => void }>();

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicUs(): number {
    return (this.#nowMs - Date.UTC(2026, 0, 1)) * 1000;
  }

  after(ms: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (signal.aborted) return Promise.reject(signal.reason);
    const timer = {
      atMs: this.#nowMs + ms,
      fire: () => {
        signal.removeEventListener('abort', abort);
        resolve();
      },
    };
    const abort = () => {
      this.#timers.delete(timer);
      reject(signal.reason);
    };
    signal.addEventListener('abort', abort, { once: true });
    this.#timers.add(timer);
    return promise;
  }

  /** Whoever waits for a time up to then is woken, in the order of their times. */
  advance(ms: number): void {
    this.#nowMs += ms;
    const due = [...this.#timers].filter(({ atMs }) => atMs <= this.#nowMs).toSorted((a, b) => a.atMs - b.atMs);
    for (const timer of due) {
      this.#timers.delete(timer);
      timer.fire();
    }
  }

  get waiting(): number {
    return this.#timers.size;
  }
}
