import type { Durations } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { nodeName } from '@octoplane/model/keys.ts';
import { rootSpanIdOf, traceIdOf } from '@octoplane/model/trace-id.ts';
import { resourceFromAttributes } from '@opentelemetry/resources';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { faultsOf } from '../../../test/support/collector/tree.ts';
import { entry, serviceKey } from '../../../test/support/stub-nodes/entries.ts';
import { FakeCluster } from '../../../test/support/stub-nodes/fake-cluster.ts';
import { ManualClock } from '../../../test/support/stub-nodes/manual-clock.ts';
import { NodeBook } from '../acks/node-book.ts';
import type { NodeRecord } from '../acks/node-record.ts';
import type { Cause } from '../compute/batch.ts';
import { History } from '../history/history.ts';
import type { EndedChange } from './change-trace.ts';
import { maxNotableNodes } from './notable-nodes.ts';
import { headSampling } from './sampling.ts';
import { countSpans, spansOf } from './spans.ts';
import { Tracer } from './tracer.ts';

const epoch = 7;
const zones = ['a', 'b', 'c'];
const linked = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
const always = { ratio: 1, followsLinks: false };
const never = { ratio: 0.001, followsLinks: false };

interface Setting {
  readonly nodes: number;
  readonly sampler?: typeof always;
  readonly maxOpen?: number;
}

/** Nodes at version 1 and a tracer whose kept changes are in `kept`; time moves only when told. */
function fleetOf({ nodes, sampler = always, maxOpen = 1024 }: Setting) {
  const cluster = new FakeCluster();
  const clock = new ManualClock();
  const history = new History({ epoch });
  const kept: EndedChange[] = [];
  const tracer: Tracer = new Tracer({
    history,
    clock,
    sampling: headSampling(sampler, () => false),
    missing: (sequence) => book.missing(sequence),
    keep: (change) => kept.push(change),
    maxOpen,
  });
  const book: NodeBook = new NodeBook(history, cluster, [tracer]);
  book.committed(history.commit(cluster.edit([]), clock.nowUs()));
  const records = Array.from({ length: nodes }, (_, i) => {
    const name = nodeName(`node-${i}`);
    const zone = zones[i % zones.length] ?? '';
    cluster.registerNode(name, zone);
    const introduction = { zone, driver: 'stub', release: '1', peer: 'memory', held: null, digest: null };
    return book.connected(name, introduction, clock.nowUs());
  });
  const node = (i: number): NodeRecord => {
    const record = records[i];
    if (!record) throw new RangeError(`${i}`);
    return record;
  };
  /** Changes an endpoint in every zone, and writes it to all. */
  const commit = (causes: Partial<Cause>[] = [{}]) => {
    const nowUs = clock.nowUs();
    const edits = zones.map((id) => ({ t: 'class', id, key: serviceKey(1), entry: entry(1, [history.head]) }) as const);
    const batch = { ...cluster.edit(edits), causes: causes.map((parts) => ({ ...causeAt(nowUs), ...parts })) };
    const made = history.commit(batch, nowUs);
    book.committed(made);
    tracer.written([made]);
    return made.sequence;
  };
  const ack = (i: number, { from = history.head - 1, to = history.head, sentMsAgo = 1, durations = worked } = {}) => {
    const frame = { from, to, sentAtUs: clock.nowUs() - sentMsAgo * 1000 };
    book.programmed(node(i), { sequence: to, digest: 0n, durations, heldBack: new Map(), frame }, clock.nowUs());
  };
  const ackAll = (from = 0) => {
    for (let i = from; i < nodes; i++) {
      clock.advance(1);
      ack(i);
    }
  };
  const refuse = (i: number, keys = [serviceKey(1)]) => {
    clock.advance(1);
    const frame = { from: history.head - 1, to: history.head, sentAtUs: clock.nowUs() - 1000 };
    tracer.refused(node(i), { ...frame, stage: 'STAGE_APPLY', reason: 'REASON_CAPACITY', message: 'no room', keys });
  };
  for (const record of records)
    book.programmed(
      record,
      { sequence: 1, digest: 0n, durations: undefined, heldBack: new Map(), frame: null },
      clock.nowUs(),
    );
  clock.advance(1000);
  return { clock, tracer, book, history, kept, node, commit, ack, ackAll, refuse };
}

const worked: Durations = { validatedUs: 10, appliedUs: 300, readBackUs: 400 };
const causeAt = (us: number): Cause => ({
  source: 'test',
  object: 'EndpointSlice default/web-1',
  isRemoval: false,
  revision: '1',
  changedAtUs: us - 3000,
  observedAtUs: us - 1000,
  traceparent: null,
});

let ids = 0;
const resource = resourceFromAttributes({ 'service.name': 'controller' });
const making = {
  epoch,
  resource,
  resourceOf: (node: NodeRecord) => resourceFromAttributes({ 'service.name': node.name }),
  scope: { name: 'test', version: '1' },
  newSpanId: () => (++ids).toString(16).padStart(16, '0'),
};

function treeOf(change: EndedChange | undefined) {
  if (!change) throw new Error('nothing was kept');
  const spans = spansOf(change, making);
  expect(spans).toHaveLength(countSpans(change));
  const us = ([seconds, nanoseconds]: [number, number]) => seconds * 1_000_000 + nanoseconds / 1000;
  return spans.map((span) => ({
    traceId: span.spanContext().traceId,
    id: span.spanContext().spanId,
    parent: span.parentSpanContext?.spanId ?? '',
    name: span.name,
    fromUs: us(span.startTime),
    toUs: us(span.endTime),
    attributes: span.attributes,
    links: span.links.map(({ context }) => [context.traceId, context.spanId]),
    status: span.status,
    service: span.resource.attributes['service.name'],
  }));
}

const deliveries = (tree: ReturnType<typeof treeOf>) => tree.filter(({ name }) => name === 'deliver');
const shownFor = (tree: ReturnType<typeof treeOf>, distinction: string) =>
  deliveries(tree)
    .filter(({ attributes }) => (attributes['octoplane.shown_for'] as string[]).includes(distinction))
    .map(({ attributes }) => attributes['octoplane.node']);

describe('a change that goes well', () => {
  test('is one tree, from the source’s event to the last ack, in the trace of its version', () => {
    const { commit, ackAll, kept, clock } = fleetOf({ nodes: 3 });
    const eventUs = clock.nowUs() - 3000;
    const sequence = commit([{ traceparent: linked }]);
    expect(kept).toHaveLength(0);
    ackAll();
    const tree = treeOf(kept[0]);
    expect(faultsOf(tree)).toEqual([]);
    const [root] = tree;
    expect(root).toMatchObject({
      traceId: traceIdOf({ epoch, sequence }),
      id: rootSpanIdOf({ epoch, sequence }),
      fromUs: eventUs,
      toUs: clock.nowUs(),
      links: [['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331']],
    });
    expect(tree.filter(({ parent }) => parent === root?.id).map(({ name }) => name)).toEqual([
      'observe',
      'pace',
      'compute',
      'commit',
      'fan-out',
    ]);
    const [first] = deliveries(tree);
    const work = tree.filter(({ parent }) => parent === first?.id);
    expect(work.map(({ name }) => name)).toEqual(['receive', 'validate', 'program', 'read back']);
    expect(work.map(({ fromUs, toUs }) => toUs - fromUs)).toEqual([300, 10, 290, 100]);
    expect(new Set(work.map(({ service }) => service))).toEqual(new Set([first?.attributes['octoplane.node']]));
  });

  test('shows, of many nodes, the first, the median, the ten slowest and a canary per zone', () => {
    const { commit, ackAll, kept } = fleetOf({ nodes: 100 });
    commit();
    ackAll();
    const tree = treeOf(kept[0]);
    expect(faultsOf(tree)).toEqual([]);
    expect(shownFor(tree, 'first')).toEqual(['node-0']);
    expect(shownFor(tree, 'median')).toEqual(['node-49']);
    expect(shownFor(tree, 'slowest').toSorted()).toEqual(Array.from({ length: 10 }, (_, i) => `node-${90 + i}`));
    expect(shownFor(tree, 'canary').toSorted()).toEqual(['node-0', 'node-1', 'node-2']);
    expect(deliveries(tree)).toHaveLength(14);
    expect(tree.find(({ name }) => name === 'fan-out')?.attributes).toMatchObject({
      'octoplane.nodes': 100,
      'octoplane.nodes.programmed': 100,
      'octoplane.convergence.p50_us': 50_000,
      'octoplane.convergence.p99_us': 99_000,
      'octoplane.convergence.p100_us': 100_000,
    });
  });

  test('links to the others of a frame that carried several, and has none of them as its parent', () => {
    const { commit, ack, kept, clock } = fleetOf({ nodes: 1 });
    const sequences = [commit(), commit(), commit()];
    clock.advance(1);
    ack(0, { from: 1, to: 4 });
    expect(kept).toHaveLength(3);
    kept.forEach((change, i) => {
      const tree = treeOf(change);
      expect(faultsOf(tree)).toEqual([]);
      const others = sequences.filter((_, j) => j !== i).toReversed();
      expect(deliveries(tree)[0]?.links).toEqual(
        others.map((sequence) => [traceIdOf({ epoch, sequence }), rootSpanIdOf({ epoch, sequence })]),
      );
    });
  });
});

describe('what the draw leaves out', () => {
  test('is not kept when it goes well', () => {
    const { commit, ackAll, kept, tracer, history } = fleetOf({ nodes: 3, sampler: never });
    commit();
    const made = history.at(2);
    expect(made && tracer.traceOf(made)).toBeNull();
    ackAll();
    expect(kept).toEqual([]);
  });

  test('is kept when a node refuses it, with the reason', () => {
    const { commit, ackAll, refuse, kept, tracer, history } = fleetOf({ nodes: 50, sampler: never });
    commit();
    refuse(20);
    const made = history.at(2);
    expect(made && tracer.traceOf(made)).toBe(traceIdOf({ epoch, sequence: 2 }));
    ackAll();
    const tree = treeOf(kept[0]);
    expect(faultsOf(tree)).toEqual([]);
    expect(shownFor(tree, 'refused')).toEqual(['node-20']);
    expect(deliveries(tree)[0]?.status).toMatchObject({ code: 2, message: 'REASON_CAPACITY no room' });
    expect(tree[0]?.status).toMatchObject({ code: 2, message: 'refused 1 times' });
  });

  test('of several in a frame, those that touch a refused entry; all, when none is named', () => {
    const named = fleetOf({ nodes: 2, sampler: never });
    named.commit();
    named.refuse(0, [serviceKey(9)]);
    named.ackAll();
    expect(named.kept).toEqual([]);
    const unnamed = fleetOf({ nodes: 2, sampler: never });
    unnamed.commit();
    unnamed.refuse(0, []);
    unnamed.ackAll();
    expect(unnamed.kept).toHaveLength(1);
  });

  test('is kept when it is late, with every late node and why', () => {
    const { commit, ack, ackAll, kept, clock, book, node } = fleetOf({ nodes: 6, sampler: never });
    commit();
    ackAll(3);
    book.disconnected(node(2), clock.nowUs());
    clock.advance(5000);
    ack(0);
    expect(kept).toEqual([]);
    clock.advance(60_000);
    const tree = treeOf(kept[0]);
    expect(faultsOf(tree)).toEqual([]);
    expect(shownFor(tree, 'late').toSorted()).toEqual(['node-0', 'node-1', 'node-2']);
    const why = (name: string) =>
      deliveries(tree).find(({ attributes }) => attributes['octoplane.node'] === name)?.status.message;
    expect(why('node-0')).toBeUndefined();
    expect(why('node-1')).toMatch(/^slow: owes version 2 for /);
    expect(why('node-2')).toMatch(/^disconnected for /);
    expect(tree[0]?.status.message).toBe('2 nodes are late');
  });

  test('is not late for a node that was away before: one dead machine does not keep everything', () => {
    const { commit, ackAll, kept, clock, book, node, tracer } = fleetOf({ nodes: 6, sampler: never });
    book.disconnected(node(0), clock.nowUs());
    clock.advance(1000);
    commit();
    ackAll(1);
    clock.advance(60_000);
    expect(kept).toEqual([]);
    expect(clock.timers).toBe(0);
    tracer.close();
  });

  test('drawn, it counts that node and does not wait for it', () => {
    const { commit, ackAll, kept, clock, book, node } = fleetOf({ nodes: 6 });
    book.disconnected(node(0), clock.nowUs());
    clock.advance(1000);
    commit();
    ackAll(1);
    clock.advance(5000);
    const tree = treeOf(kept[0]);
    expect(tree.find(({ name }) => name === 'fan-out')?.attributes).toMatchObject({
      'octoplane.nodes.away': 1,
      'octoplane.nodes.late': 0,
    });
    expect(tree[0]?.status.code).toBe(0);
  });

  test('is never kept when traces are switched off', () => {
    const { commit, refuse, kept, clock } = fleetOf({ nodes: 3, sampler: { ratio: 0, followsLinks: false } });
    commit();
    refuse(0);
    clock.advance(120_000);
    expect(kept).toEqual([]);
  });
});

test('however many refuse, are late or slow, a trace shows 32 nodes and counts the rest', () => {
  const { commit, ackAll, refuse, kept, clock } = fleetOf({ nodes: 200 });
  commit();
  for (let i = 0; i < 20; i++) refuse(i);
  ackAll(100);
  clock.advance(120_000);
  const tree = treeOf(kept[0]);
  expect(faultsOf(tree)).toEqual([]);
  expect(deliveries(tree)).toHaveLength(maxNotableNodes);
  expect(shownFor(tree, 'refused')).toHaveLength(20);
  expect(tree.find(({ name }) => name === 'fan-out')?.attributes).toMatchObject({
    'octoplane.nodes.late': 100,
    'octoplane.nodes.shown': maxNotableNodes,
    'octoplane.refusals': 20,
  });
});

test('changes on their way are bounded: the oldest is told as it is', () => {
  const { commit, kept, clock, tracer } = fleetOf({ nodes: 1, maxOpen: 3 });
  for (let i = 0; i < 5; i++) commit();
  expect(kept.map(({ commit: { sequence } }) => sequence)).toEqual([2, 3]);
  tracer.close();
  expect(kept).toHaveLength(5);
  expect(clock.timers).toBe(0);
});

test('whatever a node says of its durations, and whenever it acks, the tree is sound', () => {
  const us = fc.nat({ max: 2 ** 32 - 1 });
  const durations = fc.record({ validatedUs: us, appliedUs: us, readBackUs: us });
  const step = fc.record({
    node: fc.nat({ max: 4 }),
    waitMs: fc.nat({ max: 20 }),
    sentMsAgo: fc.nat({ max: 5 }),
    durations,
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), fc.integer(), fc.integer(), (steps, changedUs, observedUs) => {
      const { commit, ack, kept, clock } = fleetOf({ nodes: 5 });
      const nowUs = clock.nowUs();
      commit([{ changedAtUs: nowUs + changedUs, observedAtUs: nowUs + observedUs }]);
      for (const { node, waitMs, ...said } of steps) {
        clock.advance(Math.max(waitMs, said.sentMsAgo));
        ack(node, said);
      }
      clock.advance(120_000);
      expect(kept).toHaveLength(1);
      expect(faultsOf(treeOf(kept[0]))).toEqual([]);
    }),
    { numRuns: 200 },
  );
});
