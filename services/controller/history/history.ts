import { parseServicePortKey, type ServiceName } from '@octoplane/model/keys.ts';
import type { Batch, InputRevision } from '../compute/batch.ts';

/** (epoch, sequence) of proto/octoplane/v1/stream.proto. */
export interface Version {
  /** Milliseconds since 1970 at which this line of versions began. */
  readonly epoch: number;
  readonly sequence: number;
}

/** One committed batch. */
export interface Commit {
  readonly sequence: number;
  readonly committedAtUs: number;
  /** When its computation began. */
  readonly computedFromUs: number;
  readonly batch: Batch;
  /** Services whose entries it touched. */
  readonly services: ReadonlySet<ServiceName>;
}

export interface Horizon {
  /** Commits kept. A node further behind gets a bucket repair. Default 4,096: minutes of steady churn for a few hundred KiB of books. */
  readonly commits: number;
  /**
   * Changed entries kept over all commits; each pins at most one old entry. Default 200,000: two rollouts of every one of
   * 100,000 service ports, about 100 MiB at ten endpoints each.
   */
  readonly changes: number;
}

export const defaultHorizon: Horizon = { commits: 4096, changes: 200_000 };

/**
 * The versions of this epoch, newest last, within a bounded horizon.
 *
 *   1. The sequence grows by one with every commit. It starts at 1: what there was when all sources came in sync.
 *   2. Whatever was committed within the horizon can be replayed: any node that holds a version in it gets a delta.
 *   3. Memory is bounded by the horizon, whatever the nodes do. The newest commit is always kept.
 */
export class History {
  readonly epoch: number;
  readonly #horizon: Horizon;
  /** commits[i].sequence = #first + i */
  readonly #commits: Commit[] = [];
  readonly #newestOfService = new Map<ServiceName, number>();
  #first = 1;
  #changes = 0;
  #inputs: readonly InputRevision[] = [];

  constructor({ epoch, horizon = defaultHorizon }: { readonly epoch: number; readonly horizon?: Horizon }) {
    this.epoch = epoch;
    this.#horizon = horizon;
  }

  /** Sequence of the newest commit, 0 before the first. */
  get head(): number {
    return this.#first + this.#commits.length - 1;
  }

  get headVersion(): Version {
    return { epoch: this.epoch, sequence: this.head };
  }

  /** Lowest sequence that a delta can start from. */
  get oldestBase(): number {
    return this.#first - 1;
  }

  /** How far the sources have been read, which may be further than the newest commit: not all input changes a rule. */
  get inputs(): readonly InputRevision[] {
    return this.#inputs;
  }

  commit(batch: Batch, nowUs: number, computedFromUs = nowUs): Commit {
    const sequence = this.head + 1;
    const services = servicesOf(batch);
    const commit: Commit = { sequence, committedAtUs: nowUs, computedFromUs, batch, services };
    this.#commits.push(commit);
    this.#changes += changeCount(batch);
    this.#inputs = batch.inputs;
    for (const service of services) this.#newestOfService.set(service, sequence);
    this.#trim();
    return commit;
  }

  /** Input was read that changed no rule. */
  advanceInputs(inputs: readonly InputRevision[]): void {
    this.#inputs = inputs;
  }

  /** Null beyond the horizon or the head. */
  at(sequence: number): Commit | null {
    return this.#commits[sequence - this.#first] ?? null;
  }

  /** Commits in (from, to], oldest first; null when not all of them are kept. */
  between(from: number, to: number): readonly Commit[] | null {
    if (from < this.oldestBase || to > this.head) return null;
    return this.#commits.slice(from + 1 - this.#first, to + 1 - this.#first);
  }

  *newestFirst(): Generator<Commit> {
    for (let i = this.#commits.length - 1; i >= 0; i--) {
      const commit = this.#commits[i];
      if (commit) yield commit;
    }
  }

  /** Sequence of the newest commit that touched a Service; null when there is none within the horizon. */
  newestOf(service: ServiceName): number | null {
    return this.#newestOfService.get(service) ?? null;
  }

  #trim(): void {
    let drop = 0;
    while (
      this.#commits.length - drop > 1 &&
      (this.#commits.length - drop > this.#horizon.commits || this.#changes > this.#horizon.changes)
    ) {
      const oldest = this.#commits[drop++];
      if (!oldest) break;
      this.#changes -= changeCount(oldest.batch);
      for (const service of oldest.services)
        if (this.#newestOfService.get(service) === oldest.sequence) this.#newestOfService.delete(service);
    }
    if (drop === 0) return;
    this.#commits.splice(0, drop);
    this.#first += drop;
  }
}

function changeCount(batch: Batch): number {
  let count = 0;
  for (const changes of batch.classes.values()) count += changes.length;
  for (const changes of batch.overlays.values()) count += changes.length;
  return count;
}

function servicesOf(batch: Batch): ReadonlySet<ServiceName> {
  const services = new Set<ServiceName>();
  for (const group of [batch.classes, batch.overlays])
    for (const changes of group.values())
      for (const { key } of changes) {
        const id = parseServicePortKey(key);
        if (id) services.add(id.service);
      }
  return services;
}
