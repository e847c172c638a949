import type { ServicePortKey } from '@octoplane/model/keys.ts';

/**
 * Packet marks of external frontends with the Local policy. A mark stands for one service port; packets from inside the
 * cluster get it before IPVS sees them, and a virtual service for the mark takes them to all endpoints (P6).
 *
 * Marks are 0x0c000000 and a number, around the bit that means "masquerade", which other rules may set or clear.
 */
export class Marks {
  readonly #byKey = new Map<ServicePortKey, number>();
  readonly #taken = new Set<number>();
  readonly #masqueradeBit: number;
  #next = 1;

  constructor(masqueradeBit: number) {
    this.#masqueradeBit = masqueradeBit;
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** 0 when it has none. */
  of(key: ServicePortKey): number {
    return this.#byKey.get(key) ?? 0;
  }

  /** The same mark as long as it is not released. */
  acquire(key: ServicePortKey): number {
    const held = this.#byKey.get(key);
    if (held !== undefined) return held;
    while (this.#taken.has(this.#spread(this.#next))) this.#next = (this.#next % maxNumber) + 1;
    const mark = this.#spread(this.#next);
    this.adopt(key, mark);
    return mark;
  }

  /** What the kernel was found to use. */
  adopt(key: ServicePortKey, mark: number): void {
    this.#byKey.set(key, mark);
    this.#taken.add(mark);
  }

  release(key: ServicePortKey): void {
    const mark = this.#byKey.get(key);
    if (mark === undefined) return;
    this.#byKey.delete(key);
    this.#taken.delete(mark);
  }

  clear(): void {
    this.#byKey.clear();
    this.#taken.clear();
  }

  /** Leaves out the masquerade bit. */
  #spread(number: number): number {
    const low = number % 2 ** this.#masqueradeBit;
    const high = (number - low) * 2;
    return base + high + low;
  }
}

const base = 0x0c00_0000;
const maxNumber = 0x00ff_ffff;
