import type { Cancel, Clock } from '../clock.ts';

/** A place in the gate; given back once, by whoever holds it or by the lease. */
export type Release = () => void;

/**
 * Lets few repairs travel at once, so that a herd of nodes costs the memory of a few.
 *
 *   1. At most `width` places are held, first come, first served.
 *   2. A place is held for `leaseMs` at most: a peer that does not read keeps its stream waiting, not the others.
 *   3. Whoever waits can leave the queue.
 */
export class Gate {
  readonly #width: number;
  readonly #leaseMs: number;
  readonly #clock: Clock;
  readonly #waiting = new Set<(release: Release) => void>();
  #held = 0;

  constructor(options: { readonly width: number; readonly leaseMs: number; readonly clock: Clock }) {
    this.#width = options.width;
    this.#leaseMs = options.leaseMs;
    this.#clock = options.clock;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Calls `enter` when there is a place, at once if there is one now. The returned function leaves the queue. */
  enter(enter: (release: Release) => void): Cancel {
    this.#waiting.add(enter);
    this.#admit();
    return () => this.#waiting.delete(enter);
  }

  #admit(): void {
    for (const enter of this.#waiting) {
      if (this.#held >= this.#width) return;
      this.#waiting.delete(enter);
      this.#held++;
      enter(this.#place());
    }
  }

  #place(): Release {
    let held = true;
    const release = () => {
      if (!held) return;
      held = false;
      endLease();
      this.#held--;
      this.#admit();
    };
    const endLease = this.#clock.after(this.#leaseMs, release);
    return release;
  }
}
