import { Nack_Reason } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { nodeName, type ServiceName } from '@octoplane/model/keys.ts';
import { describe, expect, test } from 'vitest';
import { entry, serviceKey } from '../../../test/support/stub-nodes/entries.ts';
import { FakeCluster } from '../../../test/support/stub-nodes/fake-cluster.ts';
import { keysOfService } from '../admin/services.ts';
import { History } from '../history/history.ts';
import { whyLate } from './lateness.ts';
import { NodeBook } from './node-book.ts';
import { covers, type NodeRecord, stateOf } from './node-record.ts';
import { parseSelectors } from './selectors.ts';
import { Wait } from './wait.ts';

const introduction = { zone: 'a', driver: 'stub', release: '1', peer: 'memory', held: null, digest: null };
const nothing = new Map();

/** Ten nodes in zone a, one in zone b, all at version 1, and time in microseconds. */
function bookOf() {
  const cluster = new FakeCluster();
  const history = new History({ epoch: 1 });
  const book = new NodeBook(history, cluster);
  let nowUs = 1000;
  const commit = (edits: Parameters<FakeCluster['edit']>[0]) =>
    book.committed(history.commit(cluster.edit(edits), nowUs)).map(({ name }) => name);
  const ack = (record: NodeRecord, sequence = history.head, heldBack: ReadonlyMap<string, unknown> = nothing) =>
    book.programmed(record, { sequence, digest: 0n, durations: undefined, heldBack: heldBack as never }, nowUs);
  commit([]);
  const nodes = Array.from({ length: 11 }, (_, i) => {
    const name = nodeName(`node-${i}`);
    const zone = i < 10 ? 'a' : 'b';
    cluster.registerNode(name, zone);
    const record = book.connected(name, { ...introduction, zone }, nowUs);
    ack(record);
    return record;
  });
  const at = (us: number) => {
    nowUs = us;
  };
  const node = (i: number): NodeRecord => {
    const record = nodes[i];
    if (!record) throw new RangeError(`${i}`);
    return record;
  };
  return { cluster, history, book, commit, ack, at, nodes, node };
}

const web = (endpoints: number[]) => ({ t: 'class', id: 'a', key: serviceKey(1), entry: entry(1, endpoints) }) as const;

describe('convergence', () => {
  test('counts the nodes that a version concerns, and when so many of them had it', () => {
    const { commit, ack, at, nodes, book } = bookOf();
    expect(commit([web([1])])).toHaveLength(10);
    nodes.slice(0, 10).forEach((record, i) => {
      at(1000 + (i + 1) * 10);
      ack(record);
    });
    const { slowest, ...convergence } = book.convergence(2) ?? {};
    expect(convergence).toMatchObject({ nodes: 10, programmed: 10, p50Us: 50, p99Us: 100, p100Us: 100 });
    expect(slowest).toBe('node-9');
  });

  test('an ack is cumulative, and counts each version once', () => {
    const { commit, ack, node, book } = bookOf();
    commit([web([1])]);
    commit([web([1, 2])]);
    ack(node(0));
    ack(node(0));
    ack(node(0), 2);
    expect([2, 3].map((sequence) => book.convergence(sequence)?.programmed)).toEqual([1, 1]);
  });

  test('whom a version does not concern has it without a frame', () => {
    const { commit, node } = bookOf();
    commit([web([1])]);
    expect(covers(node(10), 2)).toBe(true);
    expect(covers(node(0), 2)).toBe(false);
  });

  test('a node that is forgotten is not waited for', () => {
    const { commit, ack, nodes, node, book } = bookOf();
    commit([web([1])]);
    for (const record of nodes.slice(1, 10)) ack(record);
    expect(book.convergence(2)?.isComplete).toBe(false);
    book.forget(node(0));
    expect(book.convergence(2)).toMatchObject({ nodes: 9, programmed: 9, isComplete: true });
  });

  test('an entry held back withholds the versions of that entry alone, until it is taken', () => {
    const { commit, ack, node, book, history } = bookOf();
    const held = new Map([[serviceKey(1), null]]);
    commit([web([1])]);
    book.refused(node(0), serviceKey(1), Nack_Reason.CAPACITY, 'full');
    ack(node(0), 2, held);
    commit([{ t: 'class', id: 'a', key: serviceKey(2), entry: entry(2) }]);
    ack(node(0), 3, held);
    expect([2, 3].map((sequence) => book.convergence(sequence)?.programmed)).toEqual([0, 1]);
    expect(stateOf(node(0))).toBe('refusing');
    expect(covers(node(0), 3, keysOfService('default/web-2' as ServiceName))).toBe(true);
    expect(covers(node(0), 3, keysOfService('default/web-1' as ServiceName))).toBe(false);
    expect(whyLate(node(0), history, 0)).toBe('refused default/web-1:80/TCP: full');
    commit([web([1, 2])]);
    ack(node(0), 4);
    expect([2, 3, 4].map((sequence) => book.convergence(sequence)?.programmed)).toEqual([1, 1, 1]);
    expect(stateOf(node(0))).toBe('current');
  });
});

describe('a wait', () => {
  const watch = (book: NodeBook, sequence: number, selectors: string[] = []) => {
    let changes = 0;
    const target = { sequence, concernsKey: undefined, selection: parseSelectors(selectors) };
    const wait = new Wait(book, target, () => changes++);
    return { wait, changes: () => changes };
  };

  test('is done when all selected nodes have the version', () => {
    const { book, commit, ack, nodes } = bookOf();
    commit([web([1])]);
    const { wait, changes } = watch(book, 2);
    expect(wait.progress()).toMatchObject({ nodes: 11, programmed: 1, isDone: false });
    for (const record of nodes.slice(0, 10)) ack(record);
    expect(wait.progress()).toMatchObject({ nodes: 11, programmed: 11, isDone: true, late: [] });
    expect(changes()).toBe(10);
    wait.stop();
  });

  test('looks at the selected nodes only, and counts names that nobody has heard of', () => {
    const { book, commit } = bookOf();
    commit([web([1])]);
    expect(watch(book, 2, ['zone=b']).wait.progress()).toMatchObject({ nodes: 1, isDone: true });
    const named = watch(book, 2, ['node-10', 'node-99']).wait.progress();
    expect(named).toMatchObject({ nodes: 2, programmed: 1, unknown: ['node-99'], isDone: false });
  });

  test('is not done while there is no node at all', () => {
    const history = new History({ epoch: 1 });
    const book = new NodeBook(history, new FakeCluster());
    expect(watch(book, 0).wait.isDone).toBe(false);
  });

  test('a disconnected node is late, and says so', () => {
    const { book, commit, node, history } = bookOf();
    commit([web([1])]);
    book.disconnected(node(0), 1_000_000);
    expect(whyLate(node(0), history, 4_000_000)).toBe('disconnected for 3 s');
  });
});

test.each([
  [['zone=a'], 10],
  [['zone=a', 'zone=b'], 11],
  [['zone=a', 'node-1', 'node-10'], 1],
  [['driver=other'], 0],
  [['state=current'], 11],
  [[], 11],
])('selectors %j choose %i nodes', (selectors, expected) => {
  const { nodes } = bookOf();
  expect(nodes.filter(parseSelectors(selectors).matches)).toHaveLength(expected);
});

test.each([['color=red'], ['state=happy']])('selector %s is refused', (selector) => {
  expect(() => parseSelectors([selector])).toThrow(selector.split('=')[0]);
});
