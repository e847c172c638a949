import type { Clock } from '../clock.ts';

/**
 * When to commit.
 *
 *   1. Leading edge: what comes while all is quiet is committed at once.
 *   2. Otherwise it waits for the fan-out under way and then for a window as long as that took, `maxWindowMs` at most: under
 *      load, at least half of the time goes to something other than fan-out, and more is conflated the longer it takes.
 *   3. Runs do not overlap, and whatever was offered is part of a run that starts after it.
 */
export class Pacer {
  readonly #run: () => Promise<void>;
  readonly #clock: Clock;
  readonly #maxWindowMs: number;
  readonly #onError: (error: unknown) => void;
  #state: 'idle' | 'running' | 'resting' = 'idle';
  #isOffered = false;

  constructor(options: {
    readonly run: () => Promise<void>;
    readonly clock: Clock;
    /** Default 500 ms: what a person takes for immediate. */
    readonly maxWindowMs?: number;
    readonly onError: (error: unknown) => void;
  }) {
    this.#run = options.run;
    this.#clock = options.clock;
    this.#maxWindowMs = options.maxWindowMs ?? 500;
    this.#onError = options.onError;
  }

  offer(): void {
    this.#isOffered = true;
    if (this.#state === 'idle') this.#start();
  }

  #start(): void {
    this.#isOffered = false;
    this.#state = 'running';
    const startUs = this.#clock.nowUs();
    this.#run().then(() => this.#rest((this.#clock.nowUs() - startUs) / 1000), this.#onError);
  }

  #rest(lastRunMs: number): void {
    this.#state = 'resting';
    this.#clock.after(Math.min(lastRunMs, this.#maxWindowMs), () => {
      this.#state = 'idle';
      if (this.#isOffered) this.#start();
    });
  }
}
