import { Nack_Reason } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { type NodeName, nodeName, type ServiceName } from '@octoplane/model/keys.ts';
import { type Entry, endpointFlags } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { entry, serviceKey } from '../../../test/support/stub-nodes/entries.ts';
import type { Edit } from '../../../test/support/stub-nodes/fake-cluster.ts';
import { EndpointGoal, type EndpointGoalOptions } from './endpoint-goal.ts';
import { EndpointIndex } from './endpoint-index.ts';
import { chooses, formatEndpointTarget, parseEndpointTarget } from './endpoint-target.ts';
import { bookOf } from './testing/book.ts';

const target = { ip: '10.244.0.7', port: 8080 };
const classWide = (key: number, endpoints: number[], id = 'a'): Edit => ({
  t: 'class',
  id,
  key: serviceKey(key),
  entry: entry(key, endpoints),
});

const draining = (key: number): Entry => {
  const { endpoints, ...rest } = entry(key, [1, 7]);
  const flagged = endpoints.map((one) => (one.ip === target.ip ? { ...one, flags: endpointFlags.draining } : one));
  return { ...rest, endpoints: flagged };
};

function fleetOf() {
  const fixture = bookOf();
  const { cluster, history } = fixture;
  const index = new EndpointIndex(history, cluster);
  const goalOf = (options: Partial<EndpointGoalOptions> = {}) =>
    new EndpointGoal({ target, state: 'gone', service: null, ...options }, { history, views: cluster }, index);
  const commit = (edits: readonly Edit[]) => {
    fixture.commit(edits);
    const commits = history.between(history.head - 1, history.head) ?? [];
    for (const one of commits) index.committed(one);
  };
  return { ...fixture, index, goalOf, commit };
}

describe('an endpoint is gone', () => {
  test('for a node once it has acknowledged a version without it', () => {
    const { commit, ack, node, goalOf } = fleetOf();
    commit([classWide(1, [1, 7])]);
    ack(node(0));
    const goal = goalOf();
    expect(goal.look(node(0))).toBe('late');
    expect(goal.whyLate(node(0))?.words).toContain('default/web-1:80/TCP still has the endpoint');
    commit([classWide(1, [1])]);
    goal.advance();
    expect(goal.look(node(0))).toBe('late');
    expect(goal.whyLate(node(0))).toBeNull();
    ack(node(0));
    expect(goal.look(node(0))).toBe('reached');
  });

  test('when it drains: it gets no new connections', () => {
    const { commit, ack, node, goalOf } = fleetOf();
    commit([classWide(1, [1, 7])]);
    ack(node(0));
    commit([{ t: 'class', id: 'a', key: serviceKey(1), entry: draining(1) }]);
    const goal = goalOf();
    expect(goal.look(node(0))).toBe('late');
    ack(node(0));
    expect(goal.look(node(0))).toBe('reached');
  });

  test('only when no Service has it any more, unless one is asked about', () => {
    const { commit, ack, node, goalOf } = fleetOf();
    commit([classWide(1, [1]), classWide(2, [7])]);
    ack(node(0));
    expect(goalOf().look(node(0))).toBe('late');
    expect(goalOf({ service: 'default/web-1' as ServiceName }).look(node(0))).toBe('reached');
    expect(goalOf({ target: { ...target, port: 9090 } }).look(node(0))).toBe('reached');
    expect(goalOf({ target: { ...target, port: null } }).look(node(0))).toBe('late');
  });

  test('not before a frame that may have brought it is answered', () => {
    const { commit, ack, node, goalOf } = fleetOf();
    ack(node(0));
    commit([classWide(1, [1, 7])]);
    commit([classWide(1, [1])]);
    expect(goalOf().look(node(0))).toBe('late');
    ack(node(0));
    expect(goalOf().look(node(0))).toBe('reached');
  });

  test('not for a node that holds back its removal, and at once for one that holds back its addition', () => {
    const { commit, ack, node, goalOf, book } = fleetOf();
    const key = serviceKey(1);
    const refusal = { reason: Nack_Reason.CAPACITY, message: 'full' };
    commit([classWide(1, [7])]);
    ack(node(0));
    book.refused(node(1), key, { ...refusal, entry: null });
    ack(node(1), 2, new Map([[key, null]]));
    expect(goalOf().look(node(1))).toBe('reached');
    expect(goalOf({ state: 'programmed' }).look(node(1))).toBe('late');
    commit([classWide(1, [1])]);
    book.refused(node(0), key, { ...refusal, entry: entry(1, [7]) });
    ack(node(0), 3, new Map([[key, null]]));
    expect(goalOf().look(node(0))).toBe('late');
  });

  test('not for a node that has come back and has not settled its plan', () => {
    const { commit, ack, node, goalOf, book, clock } = fleetOf();
    commit([classWide(1, [1])]);
    ack(node(0));
    const absent = book.restored(nodeName('node-11'), 'a', { t: 'absent', sinceUs: clock.nowUs() });
    expect(goalOf().look(absent)).toBe('late');
    expect(goalOf().look(node(0))).toBe('reached');
  });
});

describe('an endpoint is programmed', () => {
  test('on those nodes that are to have it', () => {
    const { commit, ack, node, goalOf } = fleetOf();
    commit([classWide(1, [1, 7]), classWide(1, [1], 'b')]);
    const goal = goalOf({ state: 'programmed' });
    expect(goal.look(node(0))).toBe('late');
    expect(goal.look(node(10))).toBe('unconcerned');
    ack(node(0));
    expect(goal.look(node(0))).toBe('reached');
    expect(goal.nobody).toContain('no node is told to send connections to 10.244.0.7:8080');
  });

  test('follows a version that adds it', () => {
    const { commit, ack, node, goalOf } = fleetOf();
    const goal = goalOf({ state: 'programmed' });
    expect(goal.look(node(0))).toBe('unconcerned');
    commit([classWide(1, [7])]);
    expect(goal.advance()).toBe(true);
    expect(goal.look(node(0))).toBe('late');
    ack(node(0));
    expect(goal.look(node(0))).toBe('reached');
    commit([classWide(2, [1])]);
    expect(goal.advance()).toBe(false);
  });
});

/** Ten edits and acks over few keys and endpoints, so that they meet. */
const step = fc.oneof(
  fc.record({
    t: fc.constant('class' as const),
    id: fc.constantFrom('a', 'b'),
    key: fc.integer({ min: 0, max: 2 }),
    endpoints: fc.subarray([1, 2, 7]),
    isGone: fc.boolean(),
  }),
  fc.record({
    t: fc.constant('node' as const),
    node: fc.constantFrom(0, 1, 10),
    key: fc.integer({ min: 0, max: 2 }),
    endpoints: fc.option(fc.subarray([1, 7])),
  }),
  fc.record({ t: fc.constant('move' as const), node: fc.constantFrom(0, 10), id: fc.constantFrom('a', 'b') }),
  fc.record({
    t: fc.constant('ack' as const),
    node: fc.constantFrom(0, 1, 10),
    behind: fc.integer({ min: 0, max: 3 }),
  }),
);

test('a node is late exactly while one of the rule sets that may be in its kernel sends connections there', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30, size: 'max' }), fc.boolean(), (steps, isIndexedEarly) => {
      const { commit, ack, node, goalOf, history, cluster, index } = fleetOf();
      if (isIndexedEarly) index.keysOf(target.ip);
      const watched = [0, 1, 10].map(node);
      /** Every view that there was, by node and version. */
      const views = new Map<NodeName, Map<number, ReadonlyMap<string, Entry>>>(
        watched.map(({ name }) => [name, new Map([[history.head, cluster.view(name)]])]),
      );
      const movedAt = new Map<NodeName, number>();
      const goal = goalOf();
      /** As a Wait keeps it: looked at when the node programs something, or when versions may matter. */
      const kept = new Map(watched.map((record) => [record, goal.look(record)]));
      for (const one of steps) {
        if (one.t === 'ack') {
          const record = node(one.node);
          ack(record, Math.max(record.programmed, history.head - one.behind));
          kept.set(record, goal.look(record));
        } else {
          const edit = editOf(one, node(one.t === 'class' ? 0 : one.node).name);
          commit([edit]);
          for (const { name } of watched) views.get(name)?.set(history.head, cluster.view(name));
          if (edit.t === 'move') movedAt.set(edit.node, history.head);
        }
        if (goal.advance()) for (const record of watched) kept.set(record, goal.look(record));
        for (const record of watched) {
          const kernels = Array.from(
            { length: history.head - record.programmed + 1 },
            (_, i) => views.get(record.name)?.get(record.programmed + i) ?? new Map<string, Entry>(),
          );
          const mayChoose = kernels.some((kernel) => [...kernel.values()].some((each) => chooses(each, target)));
          const verdict = goal.look(record);
          expect(kept.get(record)).toBe(verdict);
          if (mayChoose) expect(verdict).toBe('late');
          // What a move changes is in no version: until it is acknowledged the answer is the careful one.
          else if ((movedAt.get(record.name) ?? 0) <= record.programmed) expect(verdict).toBe('reached');
        }
      }
    }),
    { numRuns: 300 },
  );
});

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function editOf(one: Exclude<Step, { t: 'ack' }>, name: NodeName): Edit {
  if (one.t === 'move') return { t: 'move', node: name, id: one.id };
  const key = serviceKey(one.key);
  if (one.t === 'node')
    return { t: 'node', node: name, key, entry: one.endpoints ? entry(one.key, one.endpoints) : undefined };
  return { t: 'class', id: one.id, key, entry: one.isGone ? null : entry(one.key, one.endpoints) };
}

test.each([
  ['10.244.1.2:8080', { ip: '10.244.1.2', port: 8080 }],
  ['[fd00::1]:80', { ip: 'fd00::1', port: 80 }],
  ['fd00:0::1', { ip: 'fd00::1', port: null }],
  ['10.244.1.2', { ip: '10.244.1.2', port: null }],
])('%s is an endpoint', (text, expected) => {
  expect(parseEndpointTarget(text)).toEqual(expected);
  expect(parseEndpointTarget(formatEndpointTarget(expected))).toEqual(expected);
});

test.each(['', 'web', '10.244.1.2:', '10.244.1.2:0', '10.244.1.2:65536', 'fd00::1:x', '10.244.1:80'])(
  '%j is none',
  (text) => {
    expect(parseEndpointTarget(text)).toBeNull();
  },
);
