import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../../test/support/stub-nodes/manual-clock.ts';
import { Pacer } from './pacer.ts';

/** Runs whose end the test decides. */
function paced() {
  const clock = new ManualClock();
  const runs: PromiseWithResolvers<void>[] = [];
  const errors: unknown[] = [];
  const pacer = new Pacer({
    clock,
    maxWindowMs: 500,
    run: () => {
      const run = Promise.withResolvers<void>();
      runs.push(run);
      return run.promise;
    },
    onError: (error) => errors.push(error),
  });
  const finish = async (afterMs: number) => {
    clock.advance(afterMs);
    runs.at(-1)?.resolve();
    await Promise.resolve();
    await Promise.resolve();
  };
  return { clock, runs, errors, pacer, finish };
}

describe('pacing', () => {
  test('what comes while all is quiet runs at once', () => {
    const { pacer, runs } = paced();
    pacer.offer();
    expect(runs).toHaveLength(1);
  });

  test('what comes during a run waits for its end and for as long again, and is one run', async () => {
    const { pacer, runs, clock, finish } = paced();
    pacer.offer();
    pacer.offer();
    pacer.offer();
    await finish(40);
    expect(runs).toHaveLength(1);
    clock.advance(39);
    expect(runs).toHaveLength(1);
    clock.advance(1);
    expect(runs).toHaveLength(2);
  });

  test('the window is never longer than its limit', async () => {
    const { pacer, runs, clock, finish } = paced();
    pacer.offer();
    await finish(10_000);
    pacer.offer();
    clock.advance(499);
    expect(runs).toHaveLength(1);
    clock.advance(1);
    expect(runs).toHaveLength(2);
  });

  test('after a window without offers the next one runs at once', async () => {
    const { pacer, runs, clock, finish } = paced();
    pacer.offer();
    await finish(40);
    clock.advance(40);
    pacer.offer();
    expect(runs).toHaveLength(2);
  });

  test('a failed run is told, and is the last', async () => {
    const { pacer, runs, errors } = paced();
    pacer.offer();
    runs[0]?.reject(new Error('bug'));
    await expect(runs[0]?.promise).rejects.toThrow('bug');
    expect(errors).toHaveLength(1);
    pacer.offer();
    expect(runs).toHaveLength(1);
  });
});
