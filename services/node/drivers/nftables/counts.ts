/**
 * How many times each thing is needed, with changes that only count once they are committed: a transaction that the kernel
 * refuses leaves no trace here.
 */
export class Counts<Key> {
  readonly #held = new Map<Key, number>();
  readonly #draft = new Map<Key, number>();

  add(key: Key, difference: number): void {
    this.#draft.set(key, (this.#draft.get(key) ?? 0) + difference);
  }

  /** Things that nobody needed and somebody does now, and the other way round. */
  changes(): { readonly appeared: Key[]; readonly vanished: Key[] } {
    const appeared: Key[] = [];
    const vanished: Key[] = [];
    for (const [key, difference] of this.#draft) {
      const before = this.#held.get(key) ?? 0;
      if (before === 0 && difference > 0) appeared.push(key);
      else if (before > 0 && before + difference === 0) vanished.push(key);
    }
    return { appeared, vanished };
  }

  commit(): void {
    for (const [key, difference] of this.#draft) {
      const count = (this.#held.get(key) ?? 0) + difference;
      if (count === 0) this.#held.delete(key);
      else this.#held.set(key, count);
    }
    this.#draft.clear();
  }

  rollback(): void {
    this.#draft.clear();
  }

  clear(): void {
    this.#held.clear();
    this.#draft.clear();
  }

  has(key: Key): boolean {
    return this.#held.has(key);
  }

  keys(): IterableIterator<Key> {
    return this.#held.keys();
  }

  get size(): number {
    return this.#held.size;
  }
}
