import type { Cancel, Clock } from '../clock.ts';

/** How long a look at every Service takes: a mistake is found within this. */
const roundMs = 300_000;
/** A step's share of the round: at 100,000 Services it computes 33, less than a millisecond. */
const stepMs = 100;

/** Computes every Service anew within five minutes, in steps that nobody notices. */
export class Auditor {
  readonly #audit: (count: number) => void;
  readonly #services: () => number;
  readonly #clock: Clock;
  #cancel: Cancel = () => undefined;

  constructor(options: {
    /** Computes so many Services anew. */
    readonly audit: (count: number) => void;
    readonly services: () => number;
    readonly clock: Clock;
  }) {
    this.#audit = options.audit;
    this.#services = options.services;
    this.#clock = options.clock;
  }

  start(): void {
    let due = 0;
    const step = (): void => {
      due += (this.#services() * stepMs) / roundMs;
      const count = Math.floor(due);
      due -= count;
      if (count > 0) this.#audit(count);
      this.#cancel = this.#clock.after(stepMs, step);
    };
    this.#cancel = this.#clock.after(stepMs, step);
  }

  stop(): void {
    this.#cancel();
  }
}
