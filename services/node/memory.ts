import v8 from 'node:v8';
import vm from 'node:vm';
import type { Clock } from './clock.ts';
import { mallocTrim } from './libc.ts';

/** Entries that leave enough garbage to be worth it: a tenth of a large cluster. */
const bulk = 1000;

/** A source that is being read arrives in frames of some hundred entries; what comes one by one is everyday life, however long it lasts. */
const leastOfBulk = 20;

/** After a bulk the kernel's hands are full; whatever follows it at once should not meet the pause. */
const settleMs = 2000;

/**
 * Gives memory back to the system after a bulk load, and after the whole kernel was read. Decoding and journalling 10,000 x 10 leaves 60 MB of pages behind that V8
 * keeps for more of the same, which does not come: from then on a frame is some hundred bytes. A collection of the thorough
 * kind returns them (154 MB to 92 MB measured) for a pause of 300 ms, once, while the kernel forwards as ever.
 */
export class MemoryTrimmer {
  readonly #clock: Clock;
  readonly #collect: () => void;
  #wake = Promise.withResolvers<void>();
  #entries = 0;

  constructor(clock: Clock, collect: () => void = collectThoroughly) {
    this.#clock = clock;
    this.#collect = collect;
  }

  /** So many entries were programmed or read at once. */
  note(entries: number): void {
    if (entries >= leastOfBulk) this.#entries += entries;
    if (this.#entries >= bulk) this.#wake.resolve();
  }

  /** Until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    while (!signal.aborted) {
      await Promise.race([this.#wake.promise, stopped]);
      try {
        await this.#quiet(signal);
      } catch (error) {
        if (signal.aborted) return;
        throw error;
      }
      this.#wake = Promise.withResolvers<void>();
      this.#entries = 0;
      this.#collect();
    }
  }

  /** Resolves when no more of the bulk has come for a while. */
  async #quiet(signal: AbortSignal): Promise<void> {
    for (let seen = -1; seen !== this.#entries; ) {
      seen = this.#entries;
      await this.#clock.after(settleMs, signal);
    }
  }
}

/** V8 hands its collector out under this flag only; a context made afterwards has it, ours need not. */
function collectThoroughly(): void {
  v8.setFlagsFromString('--expose-gc');
  const gc: NodeJS.GCFunction = vm.runInNewContext('gc');
  gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  mallocTrim(0);
}
