import { expect, test } from 'vitest';
import { ManualClock } from '../../../test/support/stub-nodes/manual-clock.ts';
import { underClusterLease } from './cluster-lease.ts';
import type { SourceEvent } from './source.ts';

const synced: SourceEvent = { t: 'synced', incarnation: 'x', revision: 1, observedAtUs: 1 };
const stale: SourceEvent = { t: 'stale', reason: 'silent', observedAtUs: 1 };

function leased(leaseMs: number) {
  const clock = new ManualClock();
  const told: string[] = [];
  const stop = new AbortController();
  let say: (events: readonly SourceEvent[]) => void = () => undefined;
  const source = underClusterLease(
    {
      name: 'east',
      location: 'test',
      run(emit, signal) {
        say = emit;
        return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
      },
    },
    leaseMs,
    clock,
  );
  const done = source.run((events) => told.push(...events.map(({ t }) => t)), stop.signal);
  const end = (): Promise<void> => {
    stop.abort();
    return done;
  };
  return { clock, told, say: (event: SourceEvent) => say([event]), end };
}

test('silence is counted from the first word of it, and ended by the next sync', async () => {
  const { clock, told, say, end } = leased(1000);
  say(synced);
  clock.advance(5000);
  say(stale);
  clock.advance(600);
  say(stale);
  clock.advance(600);
  say(synced);
  clock.advance(5000);
  expect(told).toEqual(['synced', 'stale', 'stale', 'lapsed', 'synced']);
  await end();
});

test('a source that never comes in sync lapses too; one that lapses never does not', async () => {
  const first = leased(1000);
  first.clock.advance(1000);
  expect(first.told).toEqual(['lapsed']);
  await first.end();
  const never = leased(0);
  never.say(stale);
  never.clock.advance(1_000_000);
  expect(never.told).toEqual(['stale']);
  await never.end();
});
