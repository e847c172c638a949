import type { EntryChange } from '@octoplane/model/delta.ts';
import type { Family } from '@octoplane/model/keys.ts';
import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import type { FlowCleaner } from '../reconcile/reconciler.ts';
import type { Conntrack, ListedFlow } from './ctnetlink.ts';
import { type StaleFlows, staleFlows } from './stale.ts';

export interface FlowCleanerOptions {
  readonly conntrack: Pick<Conntrack, 'list' | 'delete'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly observer: FlowObserver;
}

export interface FlowObserver {
  flowsCleaned(family: Family, seconds: number, deleted: number): void;
  flowCleaningFailed(): void;
}

/**
 * From so many sets of stale flows in one family on, all UDP flows are listed once and compared here: each list is a walk of the
 * kernel's table, and the walk, not the comparing, is what it costs.
 */
const manySets = 6;

/** Deletes the UDP flows that changes have made stale. Changes without UDP cost nothing. */
export function flowCleaner(options: FlowCleanerOptions): FlowCleaner {
  const { clock, logger, observer } = options;
  return {
    clean: async (changes: readonly EntryChange[]) => {
      const stale = staleFlows(changes);
      if (stale.length === 0) return;
      for (const family of ['IPv4', 'IPv6'] as const) {
        const sets = stale.filter((set) => set.family === family);
        if (sets.length === 0) continue;
        const start = clock.monotonicUs();
        try {
          const deleted = options.conntrack.delete(find(options.conntrack, family, sets));
          if (deleted > 0) logger.debug({ family, deleted }, 'stale UDP flows deleted');
          observer.flowsCleaned(family, (clock.monotonicUs() - start) / 1e6, deleted);
        } catch (error) {
          observer.flowCleaningFailed();
          logger.error(
            { err: error, family },
            'stale UDP flows could not be deleted: clients that keep their port may talk to an endpoint that is gone',
          );
        }
      }
    },
  };
}

function find(conntrack: Pick<Conntrack, 'list'>, family: Family, sets: readonly StaleFlows[]): readonly ListedFlow[] {
  const index = new StaleIndex(sets);
  if (sets.length < manySets) {
    const found = new Map<string, ListedFlow>();
    for (const set of sets)
      for (const flow of conntrack.list(set)) if (index.isStale(flow)) found.set(flow.id.toString('latin1'), flow);
    return [...found.values()];
  }
  const anything: StaleFlows = { ...noFilter, family, isStale: () => true };
  return conntrack.list(anything).filter((flow) => index.isStale(flow));
}

const noFilter = { destination: null, destinationPort: null, answers: null, answersPort: null } as const;

/** Finds the sets that a flow may belong to, however many there are. */
class StaleIndex {
  readonly #sets = new Map<string, StaleFlows[]>();

  constructor(sets: readonly StaleFlows[]) {
    for (const set of sets) {
      const key = keyOf(set.destination, set.destinationPort, set.answers, set.answersPort);
      const list = this.#sets.get(key);
      if (list) list.push(set);
      else this.#sets.set(key, [set]);
    }
  }

  isStale(flow: ListedFlow): boolean {
    return (
      this.#any(keyOf(null, null, flow.answers, flow.answersPort), flow) ||
      this.#any(keyOf(flow.destination, flow.destinationPort, null, null), flow) ||
      this.#any(keyOf(null, flow.destinationPort, null, null), flow)
    );
  }

  #any(key: string, flow: ListedFlow): boolean {
    return this.#sets.get(key)?.some((set) => set.isStale(flow)) ?? false;
  }
}

const keyOf = (
  destination: string | null,
  port: number | null,
  answers: string | null,
  answersPort: number | null,
): string => `${destination} ${port} ${answers} ${answersPort}`;
