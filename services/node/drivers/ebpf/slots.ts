/**
 * Ranges of the array of backends, as a buddy allocator: blocks are powers of two, so a service whose size changes by
 * one mostly gets a block that another one has left, and a free block finds its neighbour without a search.
 */
export class Slots {
  readonly capacity: number;
  /** Starts of free blocks, by order (log2 of the size). */
  readonly #free: Set<number>[] = [];
  #used = 0;

  /** `capacity` must be a power of two. */
  constructor(capacity: number, taken: Iterable<Block> = []) {
    this.capacity = capacity;
    for (let order = 0; 2 ** order <= capacity; order++) this.#free.push(new Set());
    this.#freeAllBut(taken);
  }

  /** Slots in blocks that are taken. */
  get used(): number {
    return this.#used;
  }

  /** The start of a block of at least `count` slots, or null when there is none. A set of 0 takes no block. */
  take(count: number): number | null {
    if (count === 0) return 0;
    const order = orderOf(count);
    let from = order;
    while (this.#free[from]?.size === 0) from++;
    const start = this.#free[from]?.values().next().value;
    if (start === undefined) return null;
    this.#free[from]?.delete(start);
    while (from > order) {
      from--;
      this.#free[from]?.add(start + 2 ** from);
    }
    this.#used += 2 ** order;
    return start;
  }

  release({ start, count }: Block): void {
    if (count === 0) return;
    let order = orderOf(count);
    let at = start;
    this.#used -= 2 ** order;
    for (; 2 ** order < this.capacity; order++) {
      const buddy = at ^ (2 ** order);
      if (!this.#free[order]?.delete(buddy)) break;
      at = Math.min(at, buddy);
    }
    this.#free[order]?.add(at);
  }

  /** Would blocks for these counts fit? Takes none. */
  fits(counts: readonly number[]): boolean {
    let need = 0;
    for (const count of counts) need += blockSize(count);
    const largest = this.#free.findLastIndex((starts) => starts.size > 0);
    // One free block of twice the size holds them all, in whatever order they are taken.
    if (largest >= 0 && 2 ** largest >= 2 * need) return true;
    const trial = this.copy();
    return [...counts].sort((a, b) => b - a).every((count) => trial.take(count) !== null);
  }

  copy(): Slots {
    const copy = new Slots(this.capacity, [{ start: 0, count: this.capacity }]);
    for (const [order, starts] of this.#free.entries()) copy.#free[order] = new Set(starts);
    copy.#used = this.#used;
    return copy;
  }

  #freeAllBut(taken: Iterable<Block>): void {
    const blocks = [...taken].filter(({ count }) => count > 0).sort((a, b) => a.start - b.start);
    let at = 0;
    for (const { start, count } of blocks) {
      this.#freeGap(at, Math.max(at, start));
      at = Math.max(at, start + blockSize(count));
    }
    this.#freeGap(at, this.capacity);
    let free = 0;
    for (const [order, starts] of this.#free.entries()) free += starts.size * 2 ** order;
    this.#used = this.capacity - free;
  }

  /** As the largest aligned blocks that lie in it. */
  #freeGap(from: number, to: number): void {
    let at = from;
    while (at < to) {
      let order = 0;
      while (at % 2 ** (order + 1) === 0 && at + 2 ** (order + 1) <= to) order++;
      this.#free[order]?.add(at);
      at += 2 ** order;
    }
  }
}

/** `count` slots from `start`; the block behind it is rounded up. */
export interface Block {
  readonly start: number;
  readonly count: number;
}

export const blockSize = (count: number): number => (count === 0 ? 0 : 2 ** orderOf(count));

const orderOf = (count: number): number => (count <= 1 ? 0 : 32 - Math.clz32(count - 1));
