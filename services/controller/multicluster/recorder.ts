import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import type { Term } from '../leader/leader.ts';
import { Backoff } from '../sources/backoff.ts';
import { Wake } from '../sources/wake.ts';
import type { ClusterSet } from './cluster-set.ts';
import { dueWrites, type Write } from './due-writes.ts';

/** One cluster, as somebody who may write to it sees it. */
export interface ClusterWriter {
  /** Does one write; doing it twice does no harm. @throws ClusterWriteError */
  write(write: Write, signal: AbortSignal): Promise<void>;
}

/** A write that failed; the message says why and what to do. */
export class ClusterWriteError extends Error {
  override readonly name = 'ClusterWriteError';
}

/**
 * Writes what the clusterset decides into the clusters, for as long as this controller leads: ServiceImports with their addresses, and
 * the conditions of exports. What was written comes back through the sources, and is then not due any more. A cluster that cannot be
 * written to delays nobody else.
 */
export class Recorder {
  readonly #clusterSet: ClusterSet;
  readonly #writers: ReadonlyMap<string, ClusterWriter>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #wakes = new Map<string, Wake>();

  constructor(options: {
    readonly clusterSet: ClusterSet;
    /** By name of the cluster; those that are not named cannot be written to. */
    readonly writers: ReadonlyMap<string, ClusterWriter>;
    readonly clock: Clock;
    readonly logger: Logger;
  }) {
    this.#clusterSet = options.clusterSet;
    this.#writers = options.writers;
    this.#clock = options.clock;
    this.#logger = options.logger;
    for (const name of options.writers.keys()) this.#wakes.set(name, new Wake());
  }

  /** Something changed that may have to be written. */
  wake(): void {
    for (const wake of this.#wakes.values()) wake.ring();
  }

  async run({ signal }: Term): Promise<void> {
    this.wake();
    await Promise.all(Array.from(this.#writers, ([name, writer]) => this.#keepRight(name, writer, signal)));
  }

  async #keepRight(name: string, writer: ClusterWriter, signal: AbortSignal): Promise<void> {
    const wake = this.#wakes.get(name);
    const backoff = new Backoff(this.#clock);
    while (wake && !signal.aborted) {
      await wake.heard(signal);
      for (const write of this.#due(name)) {
        if (signal.aborted) return;
        try {
          await writer.write(write, signal);
          backoff.reset();
        } catch (error) {
          if (signal.aborted) return;
          if (!(error instanceof ClusterWriteError)) throw error;
          this.#logger.warn({ cluster: name, write: write.t, of: write.name, reason: error.message }, 'a write failed');
          await backoff.wait(signal);
          // What is due is worked out anew: others may have changed it.
          wake.ring();
          break;
        }
      }
    }
  }

  #due(name: string): readonly Write[] {
    const own = this.#clusterSet.ownOf(name);
    const states = this.#clusterSet.imports?.states;
    return this.#clusterSet.inSync && own && states ? dueWrites(name, own, states) : [];
  }
}
