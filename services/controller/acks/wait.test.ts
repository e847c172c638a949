import { nodeName } from '@octoplane/model/keys.ts';
import { describe, expect, test } from 'vitest';
import { entry, serviceKey } from '../../../test/support/stub-nodes/entries.ts';
import type { Census } from './census.ts';
import { versionGoal } from './goal.ts';
import { lateness } from './lateness.ts';
import { type Quorum, requiredOf } from './quorum.ts';
import { parseSelectors, type Unseen } from './selectors.ts';
import { bookOf } from './testing/book.ts';
import { Wait, type WaitRules } from './wait.ts';

const web = (endpoints: number[]) => ({ t: 'class', id: 'a', key: serviceKey(1), entry: entry(1, endpoints) }) as const;

const rulesOf = ({ selectors = [], ...rules }: Partial<WaitRules> & { selectors?: readonly string[] } = {}) => ({
  selection: parseSelectors(selectors),
  quorum: { t: 'all' } as Quorum,
  ignoreGoneMs: null,
  everyNode: false,
  ...rules,
});

/** For version 2, which concerns ten of eleven nodes. */
function waiting(
  fixture: ReturnType<typeof bookOf>,
  options: Parameters<typeof rulesOf>[0] & { census?: Census } = {},
) {
  const { book, clock, censusOf } = fixture;
  const { census = censusOf(), ...rules } = options;
  let changes = 0;
  const wait = new Wait(
    { book, census, clock },
    { goal: versionGoal(2), rules: rulesOf(rules), onChange: () => changes++ },
  );
  return { wait, changes: () => changes };
}

const objects = (...names: readonly string[]): ReadonlyMap<ReturnType<typeof nodeName>, Unseen> =>
  new Map(names.map((name) => [nodeName(name), { name, zone: 'a' }]));

describe('a wait', () => {
  test('is done when all selected nodes have the version', () => {
    const fixture = bookOf();
    fixture.commit([web([1])]);
    const { wait, changes } = waiting(fixture);
    expect(wait.progress()).toMatchObject({ nodes: 11, programmed: 1, required: 11, isDone: false });
    for (const record of fixture.nodes.slice(0, 10)) fixture.ack(record);
    expect(wait.progress()).toMatchObject({ nodes: 11, programmed: 11, isDone: true, late: [] });
    expect(changes()).toBe(10);
    wait.stop();
  });

  test('looks at the selected nodes only, and counts names that nobody has heard of', () => {
    const fixture = bookOf();
    fixture.commit([web([1])]);
    expect(waiting(fixture, { selectors: ['zone=b'] }).wait.progress()).toMatchObject({ nodes: 1, isDone: true });
    const named = waiting(fixture, { selectors: ['node-10', 'node-99'] }).wait.progress();
    expect(named).toMatchObject({ nodes: 2, programmed: 1, isDone: false });
    expect(named.unknown).toEqual([{ name: 'node-99', hasNodeObject: false }]);
  });

  test('is not done while there is no node at all', () => {
    const fixture = bookOf();
    for (const record of fixture.nodes) fixture.book.forget(record);
    const progress = waiting(fixture).wait.progress();
    expect(progress).toMatchObject({ nodes: 0, isDone: false });
    expect(progress.nobody).toContain('no node has connected');
  });

  test('a disconnected node is late, and says so', () => {
    const fixture = bookOf();
    fixture.commit([web([1])]);
    fixture.leave(fixture.node(0));
    expect(lateness(fixture.node(0), fixture.history, fixture.clock.nowUs() + 3_000_000)).toEqual({
      reason: 'disconnected',
      words: 'disconnected for 3 s',
    });
    expect(waiting(fixture).wait.progress().late).toContain(fixture.node(0));
  });

  test('a quorum is enough', () => {
    const fixture = bookOf();
    fixture.commit([web([1])]);
    const { wait } = waiting(fixture, { quorum: { t: 'percent', percent: 90 } });
    for (const record of fixture.nodes.slice(0, 8)) fixture.ack(record);
    expect(wait.progress()).toMatchObject({ programmed: 9, required: 10, isDone: false });
    fixture.ack(fixture.node(8));
    expect(wait.progress()).toMatchObject({ programmed: 10, required: 10, isDone: true, late: [fixture.node(9)] });
  });

  test('a quorum of more nodes than there are is not reached by all of them', () => {
    const { wait } = waiting(bookOf(), { quorum: { t: 'nodes', nodes: 12 } });
    expect(wait.progress()).toMatchObject({ nodes: 11, required: 12, isDone: false });
  });

  test('a node that is gone for long enough is named and does not count, and time alone makes it so', () => {
    const fixture = bookOf();
    fixture.commit([web([1])]);
    for (const record of fixture.nodes.slice(1, 10)) fixture.ack(record);
    fixture.leave(fixture.node(0));
    const { wait } = waiting(fixture, { ignoreGoneMs: 60_000 });
    fixture.clock.advance(59_000);
    expect(wait.progress()).toMatchObject({ nodes: 11, ignored: [], isDone: false, againMs: 1000 });
    fixture.clock.advance(1000);
    expect(wait.progress()).toMatchObject({ nodes: 10, programmed: 10, ignored: [fixture.node(0)], isDone: true });
  });

  test('a node that is gone and had it counts as having it', () => {
    const fixture = bookOf();
    fixture.commit([web([1])]);
    for (const record of fixture.nodes) fixture.ack(record);
    fixture.leave(fixture.node(0));
    fixture.clock.advance(60_000);
    const progress = waiting(fixture, { ignoreGoneMs: 1 }).wait.progress();
    expect(progress).toMatchObject({ nodes: 11, programmed: 11, ignored: [], isDone: true });
  });
});

describe('a controller that has just started', () => {
  /** Version 2 has come, and everybody who is there has it. */
  function restarted() {
    const fixture = bookOf();
    fixture.commit([web([1])]);
    for (const record of fixture.nodes) fixture.ack(record);
    return fixture;
  }

  test('waits for the nodes of its roster, however long they take', () => {
    const fixture = restarted();
    const sinceUs = fixture.clock.nowUs();
    const absent = fixture.book.restored(nodeName('node-11'), 'a', { t: 'absent', sinceUs });
    const census = fixture.censusOf({ settleMs: 20_000 });
    const { wait } = waiting(fixture, { census });
    expect(wait.progress()).toMatchObject({ nodes: 12, late: [absent], settlingMs: 20_000, isDone: false });
    fixture.clock.advance(20_000);
    expect(wait.progress()).toMatchObject({ nodes: 12, late: [absent], settlingMs: 0, isDone: false });
    expect(lateness(absent, fixture.history, fixture.clock.nowUs()).words).toBe(
      'has not come back since this controller started 20 s ago',
    );
    fixture.join(nodeName('node-11'));
    expect(wait.progress()).toMatchObject({ nodes: 12, programmed: 12, isDone: true });
  });

  test('has settled as soon as the whole roster is back', () => {
    const fixture = restarted();
    fixture.book.restored(nodeName('node-11'), 'a', { t: 'absent', sinceUs: fixture.clock.nowUs() });
    const census = fixture.censusOf({ settleMs: 20_000 });
    expect(census.settlingMs()).toBe(20_000);
    fixture.join(nodeName('node-11'));
    expect(census.settlingMs()).toBe(0);
  });

  test('without a roster waits for the Node objects, and later names those that never came', () => {
    const fixture = restarted();
    const nodeObjects = () => objects(...fixture.nodes.map(({ name }) => name), 'node-11');
    const census = fixture.censusOf({ hasRoster: false, nodeObjects, settleMs: 20_000 });
    const { wait } = waiting(fixture, { census });
    const unknown = [{ name: 'node-11', hasNodeObject: true }];
    expect(wait.progress()).toMatchObject({ nodes: 12, programmed: 11, unknown, isDone: false, againMs: 20_000 });
    fixture.clock.advance(20_000);
    expect(wait.progress()).toMatchObject({ nodes: 11, unknown: [], uncounted: ['node-11'], isDone: true });
    const every = waiting(fixture, { census, everyNode: true }).wait;
    expect(every.progress()).toMatchObject({ nodes: 12, unknown, uncounted: [], isDone: false });
    const elsewhere = waiting(fixture, { census, everyNode: true, selectors: ['zone=b'] }).wait;
    expect(elsewhere.progress()).toMatchObject({ nodes: 1, unknown: [], isDone: true });
  });

  test('with neither waits for as long as nodes need to come back', () => {
    const fixture = restarted();
    const { wait } = waiting(fixture, { census: fixture.censusOf({ hasRoster: false, settleMs: 20_000 }) });
    expect(wait.progress()).toMatchObject({ nodes: 11, programmed: 11, settlingMs: 20_000, isDone: false });
    fixture.clock.advance(20_000);
    expect(wait.progress()).toMatchObject({ isDone: true });
  });

  test('need not settle for nodes that are named', () => {
    const fixture = restarted();
    const census = fixture.censusOf({ hasRoster: false, settleMs: 20_000 });
    const { wait } = waiting(fixture, { census, selectors: ['node-0', 'node-1'] });
    expect(wait.progress()).toMatchObject({ nodes: 2, settlingMs: 0, isDone: true });
  });
});

test.each<[Quorum, number, number]>([
  [{ t: 'all' }, 7, 7],
  [{ t: 'nodes', nodes: 3 }, 7, 3],
  [{ t: 'percent', percent: 99 }, 100, 99],
  [{ t: 'percent', percent: 99 }, 101, 100],
  [{ t: 'percent', percent: 33.3 }, 1000, 333],
  [{ t: 'percent', percent: 0.1 }, 10, 1],
])('of %j and %i nodes, %i are required', (quorum, nodes, required) => {
  expect(requiredOf(quorum, nodes)).toBe(required);
});
