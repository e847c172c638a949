import { checked } from './kernel-error.ts';
import { libbpf } from './libbpf.ts';
import type { Block, Slots } from './slots.ts';

/**
 * Gives ranges of the array of backends back when no program can still look at them. The kernel says when: an update of a
 * map of maps returns after every program that ran at its start has ended (kernel/bpf/syscall.c,
 * maybe_wait_bpf_programs). It takes milliseconds, so it happens in the background, once for all that has gathered.
 */
export class Grace {
  readonly #graceFd: number;
  readonly #innerFd: number;
  readonly #key = Buffer.alloc(4);
  readonly #inner = Buffer.alloc(4);
  #waiting: { block: Block; slots: Slots }[] = [];
  /** Of the round that is under way. */
  #gathered: { block: Block; slots: Slots }[] = [];
  #round: Promise<void> | null = null;
  #failed: unknown = null;

  constructor(graceFd: number) {
    this.#graceFd = graceFd;
    // BPF_MAP_TYPE_ARRAY, as the template in maps.h.
    this.#innerFd = checked(libbpf().createMap(2, 'grace_inner', 4, 4, 1, null), 'making a map');
    this.#inner.writeUInt32LE(this.#innerFd);
  }

  /** Blocks that wait for their grace period. */
  get waiting(): number {
    return this.#waiting.length + this.#gathered.length;
  }

  /** @throws what the last round failed with: without grace periods memory would run out unseen. */
  release(blocks: readonly Block[], slots: Slots): void {
    if (this.#failed !== null) throw this.#failed;
    for (const block of blocks) if (block.count > 0) this.#waiting.push({ block, slots });
    if (this.#round !== null || this.#waiting.length === 0) return;
    this.#round = this.#rounds().catch((error: unknown) => {
      this.#failed = error;
    });
  }

  /** Waits for the round that is under way. */
  async close(): Promise<void> {
    await this.#round;
    checked(libbpf().closeFd(this.#innerFd), 'close');
  }

  async #rounds(): Promise<void> {
    while (this.#waiting.length > 0) {
      this.#gathered = this.#waiting;
      this.#waiting = [];
      const result = await libbpf().updateInBackground(this.#graceFd, this.#key, this.#inner, 0n);
      checked(result, 'waiting for running programs');
      for (const { block, slots } of this.#gathered) slots.release(block);
      this.#gathered = [];
    }
    this.#round = null;
  }
}
