import type { Clock } from '../../../services/controller/clock.ts';

/** Time that a test moves. */
export class ManualClock implements Clock {
  #nowUs = 1_800_000_000_000_000;
  readonly #timers = new Set<{ readonly atUs: number; readonly callback: () => void }>();

  nowUs(): number {
    return this.#nowUs;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { atUs: this.#nowUs + ms * 1000, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  get timers(): number {
    return this.#timers.size;
  }

  /** Runs what falls due on the way, in its order. */
  advance(ms: number): void {
    const end = this.#nowUs + ms * 1000;
    for (;;) {
      const due = [...this.#timers].filter(({ atUs }) => atUs <= end).sort((a, b) => a.atUs - b.atUs)[0];
      if (!due) break;
      this.#timers.delete(due);
      this.#nowUs = due.atUs;
      due.callback();
    }
    this.#nowUs = end;
  }
}
