import { setTimeout as delay } from 'node:timers/promises';

/** Time, passed in so that tests own it. */
export interface Clock {
  /** Milliseconds since 1970. */
  nowMs(): number;
  /** Microseconds of a clock that never goes back; only differences mean something. */
  monotonicUs(): number;
  /** Rejects with the signal's reason when it is aborted first. */
  after(ms: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicUs: () => Math.round(performance.now() * 1000),
  after: async (ms, signal) => {
    await delay(ms, undefined, { signal });
  },
};
