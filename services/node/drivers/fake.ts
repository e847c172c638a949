import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, endpointFlags, entriesEqual, type RuleSet } from '@octoplane/model/rule-set.ts';
import { type Driver, DriverError, type DriverModule, type Mismatch, type Refusal } from './driver.ts';

/**
 * A kernel made of memory. It outlives the drivers opened on it, as a real one does, and other programs can disturb it.
 */
export class FakeKernel {
  readonly entries = new Map<ServicePortKey, Entry>();
  /** Stands for base chains, hooks and programs: without it, the entries serve nobody. */
  frame = false;
  /** Objects of ours that are no part of an entry. */
  orphans = 0;
  /** Applied so far. */
  transactions = 0;
  /** Dumps so far. */
  dumps = 0;
  /** Grows with everything that somebody else does. */
  disturbances = 0;
  /** Most endpoints that fit. */
  readonly capacity: number;
  readonly #watchers = new Set<(what: string) => void>();

  constructor(options: { readonly capacity?: number } = {}) {
    this.capacity = options.capacity ?? Number.POSITIVE_INFINITY;
  }

  watch(onDisturbed: (what: string) => void, signal: AbortSignal): void {
    if (signal.aborted) return;
    this.#watchers.add(onDisturbed);
    signal.addEventListener('abort', () => this.#watchers.delete(onDisturbed), { once: true });
  }

  /** What another program does, such as `nft flush ruleset`; watchers are told. */
  disturb(what: string, change: (kernel: FakeKernel) => void): void {
    change(this);
    this.disturbances++;
    for (const watcher of this.#watchers) watcher(what);
  }
}

/** Real semantics on a FakeKernel: atomic, truthful, with a capacity. For tests, benchmarks and dry runs. */
export class FakeDriver implements Driver {
  readonly name = 'fake';
  readonly #kernel: FakeKernel;
  #seenDisturbances = -1;

  constructor(kernel: FakeKernel) {
    this.#kernel = kernel;
  }

  /** As the drivers that program netfilter: no draining endpoints, no health check port, nothing without a frontend. */
  visible(entry: Entry): Entry | null {
    const { spec, endpoints } = entry;
    const frontends = spec.clusterIps.length + spec.externalIps.length + spec.loadBalancerIps.length + spec.nodePort;
    if (frontends === 0) return null;
    const chosen = endpoints.filter(({ flags }) => flags !== endpointFlags.draining);
    return {
      key: entry.key,
      spec: spec.healthCheckNodePort === 0 ? spec : { ...spec, healthCheckNodePort: 0 },
      endpoints: chosen.length === endpoints.length ? endpoints : chosen,
    };
  }

  check(changes: readonly EntryChange[]): readonly Refusal[] {
    let used = this.#endpoints();
    const refusals: Refusal[] = [];
    for (const { key, before, after } of changes) {
      const growth = this.#size(after) - this.#size(before);
      if (growth > 0 && used + growth > this.#kernel.capacity)
        refusals.push({
          key,
          reason: 'capacity',
          message: `${used + growth} endpoints, room for ${this.#kernel.capacity}`,
        });
      else used += growth;
    }
    return refusals;
  }

  async apply(changes: readonly EntryChange[]): Promise<void> {
    const { entries, capacity } = this.#kernel;
    const growth = changes.reduce(
      (sum, { key, after }) => sum + this.#size(after) - (entries.get(key)?.endpoints.length ?? 0),
      0,
    );
    const total = this.#endpoints() + growth;
    if (total > capacity) throw new DriverError(`the fake kernel is full: ${total} endpoints, room for ${capacity}`);
    for (const { key, after } of changes) {
      const visible = after && this.visible(after);
      if (visible) entries.set(key, visible);
      else entries.delete(key);
    }
    this.#kernel.transactions++;
  }

  async readBack(changes: readonly EntryChange[]): Promise<readonly Mismatch[]> {
    const mismatches: Mismatch[] = [];
    for (const { key, after } of changes) {
      const found = this.#kernel.entries.get(key) ?? null;
      if (!entriesEqual(found, after && this.visible(after)))
        mismatches.push({ key, message: found ? 'differs from what was asked for' : 'is missing' });
    }
    return mismatches;
  }

  async dump(): Promise<RuleSet> {
    this.#kernel.dumps++;
    this.#seenDisturbances = this.#kernel.disturbances;
    return new Map(this.#kernel.entries);
  }

  async prune(wanted: RuleSet): Promise<number> {
    const kernel = this.#kernel;
    let corrected = kernel.orphans;
    kernel.orphans = 0;
    if (!kernel.frame) corrected++;
    kernel.frame = true;
    for (const key of [...kernel.entries.keys()]) {
      const entry = wanted.get(key);
      if (entry && this.visible(entry)) continue;
      kernel.entries.delete(key);
      corrected++;
    }
    return corrected;
  }

  async cleanup(): Promise<void> {
    this.#kernel.entries.clear();
    this.#kernel.frame = false;
    this.#kernel.orphans = 0;
  }

  watch(onDisturbed: (what: string) => void, signal: AbortSignal): void {
    this.#kernel.watch(onDisturbed, signal);
  }

  undisturbed(): boolean {
    return this.#seenDisturbances === this.#kernel.disturbances;
  }

  gauges(): Readonly<Record<string, number>> {
    return {
      entries: this.#kernel.entries.size,
      endpoints: this.#endpoints(),
      transactions: this.#kernel.transactions,
    };
  }

  async close(): Promise<void> {
    // There is no handle to free.
  }

  #size(entry: Entry | null): number {
    return (entry && this.visible(entry)?.endpoints.length) ?? 0;
  }

  #endpoints(): number {
    let count = 0;
    for (const entry of this.#kernel.entries.values()) count += entry.endpoints.length;
    return count;
  }
}

export const fakeModule = (kernel: FakeKernel): DriverModule => ({
  name: 'fake',
  flows: 'own',
  capabilities: [],
  probe: async () => ({ t: 'able', details: ['keeps its rules in memory and forwards nothing'] }),
  open: async () => new FakeDriver(kernel),
});
