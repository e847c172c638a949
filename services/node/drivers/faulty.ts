import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry, RuleSet } from '@octoplane/model/rule-set.ts';
import { type Driver, DriverError, type DriverName, type Mismatch, type Refusal } from './driver.ts';

export interface FaultyOptions {
  /** Equal seeds fail alike. */
  readonly seed: number;
  /** Share of operations that fail. 0.1: often enough to meet every fault in a short test, rare enough to get ahead. */
  readonly rate?: number;
}

/**
 * Any driver, failing now and then in each way that the contract allows, and in one that it does not but kernels do: it
 * reports success and loses a change. Only dump and a read-back that succeeds are ever believed, so those never lie here.
 */
export class FaultyDriver implements Driver {
  readonly #inner: Driver;
  readonly #random: () => number;
  readonly #rate: number;
  /** Switched off at the end of a test, to see that all comes right. */
  healthy = false;
  faults = 0;

  constructor(inner: Driver, options: FaultyOptions) {
    this.#inner = inner;
    this.#random = mulberry32(options.seed);
    this.#rate = options.rate ?? 0.1;
  }

  get name(): DriverName {
    return this.#inner.name;
  }

  visible(entry: Entry): Entry | null {
    return this.#inner.visible(entry);
  }

  check(changes: readonly EntryChange[]): readonly Refusal[] {
    const refused = changes.length > 0 && this.#fails() ? this.#pick(changes) : undefined;
    return refused ? [refusalOf(refused.key)] : this.#inner.check(changes);
  }

  async apply(changes: readonly EntryChange[]): Promise<void> {
    if (!this.#fails()) return this.#inner.apply(changes);
    const kinds = ['untouched', 'named', 'torn', 'late', 'lost'] as const;
    switch (this.#pick(kinds)) {
      case 'untouched':
        throw new DriverError('refused, and the kernel is as it was');
      case 'named':
        throw new DriverError('one entry was refused', {
          refusals: changes.slice(0, 1).map(({ key }) => refusalOf(key)),
        });
      case 'torn':
        await this.#inner.apply(changes.filter(() => this.#random() < 0.5));
        throw new DriverError('half of it is in', { torn: true });
      case 'late':
        await this.#inner.apply(changes);
        throw new DriverError('the answer was lost', { torn: true });
      default:
        await this.#inner.apply(changes.slice(1));
    }
  }

  async readBack(changes: readonly EntryChange[]): Promise<readonly Mismatch[]> {
    if (this.#fails()) throw new DriverError('the read-back was interrupted');
    return this.#inner.readBack(changes);
  }

  async dump(): Promise<RuleSet> {
    if (this.#fails()) throw new DriverError('the dump was interrupted');
    return this.#inner.dump();
  }

  async prune(wanted: RuleSet): Promise<number> {
    if (this.#fails()) throw new DriverError('nothing was pruned');
    return this.#inner.prune(wanted);
  }

  cleanup(): Promise<void> {
    return this.#inner.cleanup();
  }

  watch(onDisturbed: (what: string) => void, signal: AbortSignal): void {
    this.#inner.watch(onDisturbed, signal);
  }

  undisturbed(): boolean {
    return this.#inner.undisturbed?.() ?? false;
  }

  gauges(): Readonly<Record<string, number>> {
    return { ...this.#inner.gauges(), faults: this.faults };
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  #fails(): boolean {
    if (this.healthy || this.#random() >= this.#rate) return false;
    this.faults++;
    return true;
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.#random() * list.length)];
  }
}

const refusalOf = (key: ServicePortKey): Refusal => ({ key, reason: 'kernel', message: 'the faulty driver says no' });

/** A small generator with a seed; quality does not matter here, repeatability does. */
export function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
