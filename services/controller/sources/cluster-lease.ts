import type { Cancel, Clock } from '../clock.ts';
import type { Source, SourceEvent } from './source.ts';

/**
 * A source of one cluster among several, whose silence is measured: stale, or not yet in sync, for longer than `leaseMs`, it says 'lapsed'. Other
 * clusters then do without its endpoints, and do not wait for it when the controller starts. 0: it never lapses.
 */
export function underClusterLease(source: Source, leaseMs: number, clock: Clock): Source {
  return {
    name: source.name,
    location: source.location,
    catchUp: () => source.catchUp?.(),
    async run(emit, signal) {
      let cancel = null as Cancel | null;
      const watch = (): void => {
        if (leaseMs > 0) cancel ??= clock.after(leaseMs, () => emit([{ t: 'lapsed', observedAtUs: clock.nowUs() }]));
      };
      const heard = (events: readonly SourceEvent[]): void => {
        for (const { t } of events) {
          if (t === 'stale') watch();
          if (t !== 'synced') continue;
          cancel?.();
          cancel = null;
        }
        emit(events);
      };
      watch();
      try {
        await source.run(heard, signal);
      } finally {
        cancel?.();
      }
    },
  };
}
