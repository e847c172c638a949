import type { Cancel, Clock } from '../../clock.ts';

/** Barks once when a count has not moved for between `ms` and twice that. */
export class Watchdog {
  readonly #clock: Clock;
  readonly #ms: number;
  readonly #count: () => number;
  readonly #bark: () => void;
  #seen: number;
  #cancel: Cancel;

  constructor(clock: Clock, ms: number, count: () => number, bark: () => void) {
    this.#clock = clock;
    this.#ms = ms;
    this.#count = count;
    this.#bark = bark;
    this.#seen = count();
    this.#cancel = this.#wait();
  }

  close(): void {
    this.#cancel();
  }

  #wait(): Cancel {
    return this.#clock.after(this.#ms, () => {
      const now = this.#count();
      if (now === this.#seen) {
        this.#bark();
        return;
      }
      this.#seen = now;
      this.#cancel = this.#wait();
    });
  }
}
