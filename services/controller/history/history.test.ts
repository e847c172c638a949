import type { NodeName, ServiceName } from '@octoplane/model/keys.ts';
import { describe, expect, test } from 'vitest';
import { entry, serviceKey } from '../../../test/support/stub-nodes/entries.ts';
import type { Batch } from '../compute/batch.ts';
import { conflateView, laggingInput, movedInputs } from './conflate.ts';
import { History } from './history.ts';

const batch = (i: number, changes = 1): Batch => ({
  classes: new Map([
    ['a', Array.from({ length: changes }, (_, k) => ({ key: serviceKey(i + k), before: null, after: entry(i + k) }))],
  ]),
  overlays: new Map(),
  moved: [],
  causes: [],
  inputs: [],
});

describe('the horizon', () => {
  test('bounds the commits, and a base outside of it has no delta', () => {
    const history = new History({ epoch: 1, horizon: { commits: 3, changes: 100 } });
    for (let i = 0; i < 10; i++) history.commit(batch(i), i);
    expect(history.head).toBe(10);
    expect(history.oldestBase).toBe(7);
    expect(history.between(7, 10)?.map(({ sequence }) => sequence)).toEqual([8, 9, 10]);
    expect(history.between(6, 10)).toBe(null);
    expect(history.between(10, 10)).toEqual([]);
    expect(history.between(10, 11)).toBe(null);
    expect(history.at(7)).toBe(null);
  });

  test('bounds the changes, but keeps the newest commit however large', () => {
    const history = new History({ epoch: 1, horizon: { commits: 100, changes: 10 } });
    for (let i = 0; i < 5; i++) history.commit(batch(i, 4), i);
    expect(history.oldestBase).toBe(3);
    history.commit(batch(0, 50), 6);
    expect(history.oldestBase).toBe(5);
    expect(history.at(6)).not.toBe(null);
  });

  test('knows the newest version of a Service only within it', () => {
    const history = new History({ epoch: 1, horizon: { commits: 2, changes: 100 } });
    history.commit(batch(1), 1);
    history.commit(batch(2), 2);
    expect(history.newestOf('default/web-1' as ServiceName)).toBe(1);
    history.commit(batch(3), 3);
    expect(history.newestOf('default/web-1' as ServiceName)).toBe(null);
    expect(history.newestOf('default/web-3' as ServiceName)).toBe(3);
  });
});

test('a change that is taken back leaves nothing to send', () => {
  const history = new History({ epoch: 1 });
  const key = serviceKey(1);
  const change = (before: ReturnType<typeof entry> | null, after: ReturnType<typeof entry> | null): Batch => ({
    ...batch(0, 0),
    classes: new Map([['a', [{ key, before, after }]]]),
  });
  history.commit(change(null, entry(1)), 1);
  history.commit(change(entry(1), entry(1, [1, 2])), 2);
  history.commit(change(entry(1, [1, 2]), entry(1)), 3);
  expect(conflateView(history.between(1, 3) ?? [], 'a', 'node-1' as NodeName).size).toBe(0);
  expect(conflateView(history.between(0, 3) ?? [], 'a', 'node-1' as NodeName).get(key)?.after).toEqual(entry(1));
});

describe('inputs', () => {
  const input = (source: string, incarnation: string, revision: number) => ({ source, incarnation, revision });

  test('a delta names those that moved, and an incarnation only when it is another', () => {
    const base = [input('a', 'x', 1), input('b', 'y', 5), input('c', 'z', 9)];
    const head = [input('a', 'x', 2), input('b', 'y', 5), input('c', 'zz', 1), input('d', 'new', 1)];
    expect(movedInputs(base, head)).toEqual([input('a', '', 2), input('c', 'zz', 1), input('d', 'new', 1)]);
    expect(movedInputs(null, head)).toEqual(head);
  });

  test('only the same incarnation of a known source can be lagged behind', () => {
    const ours = [input('a', 'x', 5)];
    expect(laggingInput(ours, [input('a', 'x', 6)])).toEqual({ source: 'a', ours: 5, theirs: 6 });
    expect(laggingInput(ours, [input('a', 'x', 5)])).toBe(null);
    expect(laggingInput(ours, [input('a', 'other', 99), input('b', 'x', 99)])).toBe(null);
  });
});
