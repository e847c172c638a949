import type { Gone } from './ends.ts';
import { checked } from './kernel-error.ts';
import { libbpf } from './libbpf.ts';
import type { Block, Slots } from './slots.ts';

/**
 * Tells when no program runs any more that may have seen what a change set took away: then ranges of the array of backends are
 * free, and sockets are as they will be. The kernel says when: an update of a map of maps returns after every program that ran
 * at its start has ended (kernel/bpf/syscall.c, maybe_wait_bpf_programs). It takes milliseconds, so it happens in the
 * background, once for all that has gathered.
 */
export class Grace {
  readonly #graceFd: number;
  readonly #onOver: (past: readonly Past[]) => void;
  readonly #innerFd: number;
  readonly #key = Buffer.alloc(4);
  readonly #inner = Buffer.alloc(4);
  #gathered: Past[] = [];
  /** Of the round that is under way. */
  #waiting: readonly Past[] = [];
  #round: Promise<void> | null = null;
  #failed: unknown = null;

  constructor(graceFd: number, onOver: (past: readonly Past[]) => void) {
    this.#graceFd = graceFd;
    this.#onOver = onOver;
    // BPF_MAP_TYPE_ARRAY, as the template in maps.h.
    this.#innerFd = checked(libbpf().createMap(2, 'grace_inner', 4, 4, 1, null), 'making a map');
    this.#inner.writeUInt32LE(this.#innerFd);
  }

  /** Blocks that wait for their grace period. */
  get waiting(): number {
    return [...this.#gathered, ...this.#waiting].reduce((sum, { garbage }) => sum + garbage.length, 0);
  }

  /** @throws what the last round failed with: without grace periods memory would run out unseen. */
  await(past: Past): void {
    if (this.#failed !== null) throw this.#failed;
    if (past.garbage.length + past.gone.length > 0) this.#gathered.push(past);
    if (this.#round !== null || this.#gathered.length === 0) return;
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
    while (this.#gathered.length > 0) {
      this.#waiting = this.#gathered;
      this.#gathered = [];
      const result = await libbpf().updateInBackground(this.#graceFd, this.#key, this.#inner, 0n);
      checked(result, 'waiting for running programs');
      this.#onOver(this.#waiting);
      this.#waiting = [];
    }
    this.#round = null;
  }
}

/** What a change set took away. */
export interface Past {
  readonly garbage: readonly Block[];
  /** Of these books: a dump makes new ones, which know nothing of the block. */
  readonly slots: Slots;
  readonly gone: readonly Gone[];
}
