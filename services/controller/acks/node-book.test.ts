import { Nack_Reason } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import { describe, expect, test } from 'vitest';
import { entry, serviceKey } from '../../../test/support/stub-nodes/entries.ts';
import { keysOfService } from '../admin/services.ts';
import { lateness } from './lateness.ts';
import { covers, stateOf } from './node-record.ts';
import { parseSelectors } from './selectors.ts';
import { bookOf } from './testing/book.ts';

const web = (endpoints: number[]) => ({ t: 'class', id: 'a', key: serviceKey(1), entry: entry(1, endpoints) }) as const;

describe('convergence', () => {
  test('counts the nodes that a version concerns, and when so many of them had it', () => {
    const { commit, ack, clock, nodes, book } = bookOf();
    expect(commit([web([1])])).toHaveLength(10);
    for (const record of nodes.slice(0, 10)) {
      clock.advance(1);
      ack(record);
    }
    const { slowest, ...convergence } = book.convergence(2) ?? {};
    expect(convergence).toMatchObject({ nodes: 10, programmed: 10, p50Us: 5000, p99Us: 10_000, p100Us: 10_000 });
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
    book.refused(node(0), serviceKey(1), { reason: Nack_Reason.CAPACITY, message: 'full', entry: null });
    ack(node(0), 2, held);
    commit([{ t: 'class', id: 'a', key: serviceKey(2), entry: entry(2) }]);
    ack(node(0), 3, held);
    expect([2, 3].map((sequence) => book.convergence(sequence)?.programmed)).toEqual([0, 1]);
    expect(stateOf(node(0))).toBe('refusing');
    expect(covers(node(0), 3, keysOfService('default/web-2' as ServiceName))).toBe(true);
    expect(covers(node(0), 3, keysOfService('default/web-1' as ServiceName))).toBe(false);
    expect(lateness(node(0), history, 0)).toEqual({ reason: 'refused', words: 'refused default/web-1:80/TCP: full' });
    commit([web([1, 2])]);
    ack(node(0), 4);
    expect([2, 3, 4].map((sequence) => book.convergence(sequence)?.programmed)).toEqual([1, 1, 1]);
    expect(stateOf(node(0))).toBe('current');
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
