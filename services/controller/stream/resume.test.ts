import { DigestSums, digestOf } from '@octoplane/model/digest.ts';
import { Nack_Reason, Plan_Kind, StreamRequest, StreamResponse } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { nodeName } from '@octoplane/model/keys.ts';
import fc from 'fast-check';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { entry, serviceKey } from '../../../test/support/stub-nodes/entries.ts';
import { type Edit, FakeCluster } from '../../../test/support/stub-nodes/fake-cluster.ts';
import { ManualClock } from '../../../test/support/stub-nodes/manual-clock.ts';
import { StubNode } from '../../../test/support/stub-nodes/stub-node.ts';
import { NodeBook } from '../acks/node-book.ts';
import { isCurrent } from '../acks/node-record.ts';
import type { Batch } from '../compute/batch.ts';
import { History } from '../history/history.ts';
import { differingBuckets } from './buckets.ts';
import { Fleet } from './fleet.ts';
import type { Session } from './session.ts';

const zones = ['a', 'b'];
const nodeCount = 4;
const keyCount = 6;
/** What a picky node refuses, while the node port is odd. */
const pickyKeys: readonly string[] = [serviceKey(0), serviceKey(1), serviceKey(2)];

/** One replica of the controller over its own copy of the input. */
class Replica {
  readonly cluster = new FakeCluster();
  readonly clock: ManualClock;
  readonly pending: Promise<void>[] = [];
  history: History;
  book: NodeBook;
  fleet: Fleet;

  constructor(clock: ManualClock, epoch: number) {
    this.clock = clock;
    ({ history: this.history, book: this.book, fleet: this.fleet } = this.#make(epoch));
    this.commit(this.cluster.edit([]));
  }

  restart(epoch: number): void {
    this.fleet.close('restart');
    ({ history: this.history, book: this.book, fleet: this.fleet } = this.#make(epoch));
    this.commit(this.cluster.edit([]));
  }

  commit(batch: Batch): void {
    this.clock.advance(1);
    this.fleet.open();
    this.pending.push(this.fleet.committed([this.history.commit(batch, this.clock.nowUs())]));
  }

  #make(epoch: number) {
    const history = new History({ epoch, horizon: { commits: 5, changes: 1000 } });
    const book = new NodeBook(history, this.cluster);
    const logger = pino({ level: 'silent' });
    const settings = { repairs: 1 };
    const fleet = new Fleet({
      cluster: this.cluster,
      history,
      book,
      clock: this.clock,
      logger,
      release: 'test',
      random: () => 0.5,
      settings,
    });
    return { history, book, fleet };
  }
}

/** A stub node and its wire, on which messages wait until they are delivered. */
class Arm {
  readonly stub: StubNode;
  readonly toNode: Buffer[] = [];
  readonly toBrain: Buffer[] = [];
  session: Session | null = null;
  replica: Replica | null = null;
  #awaitsPlan = false;
  readonly picky: boolean;

  constructor(i: number, picky: boolean) {
    this.picky = picky;
    const refuse = picky
      ? ({ key, after }: { key: string; after: { spec: { nodePort: number } } | null }) =>
          pickyKeys.includes(key) && after && after.spec.nodePort % 2 === 1 ? Nack_Reason.CAPACITY : null
      : () => null;
    this.stub = new StubNode({
      name: nodeName(`node-${i}`),
      zone: zones[i % zones.length] ?? '',
      refuse,
      namesOneRefusal: true,
    });
  }

  connect(replica: Replica): void {
    this.cut();
    this.replica = replica;
    const session = replica.fleet.accept({
      peer: 'memory',
      mayBe: () => true,
      write: (message) => {
        this.#checkPlan(message);
        this.toNode.push(message);
        return true;
      },
      end: () => {
        if (this.session === session) this.session = null;
      },
    });
    this.session = session;
    this.send(this.stub.hello());
  }

  cut(): void {
    const { session } = this;
    this.session = null;
    this.toNode.length = 0;
    this.toBrain.length = 0;
    session?.closed();
  }

  send(message: NonNullable<StreamRequest['message']>): void {
    this.toBrain.push(Buffer.from(StreamRequest.encode({ message }).finish()));
  }

  deliverToBrain(): boolean {
    const bytes = this.toBrain.shift();
    if (!bytes || !this.session) return false;
    if (StreamRequest.decode(bytes).message?.$case === 'hello') this.#awaitsPlan = true;
    this.session.received(bytes);
    return true;
  }

  deliverToNode(): boolean {
    const bytes = this.toNode.shift();
    if (!bytes) return false;
    const answer = this.stub.received(StreamResponse.decode(bytes));
    if (answer) this.send(answer);
    return true;
  }

  /** Right when it is written: the node holds what its Hello said, and the head is what the plan is made for. */
  #checkPlan(bytes: Buffer): void {
    const { message } = StreamResponse.decode(bytes);
    if (!this.#awaitsPlan || message?.$case !== 'plan') return;
    this.#awaitsPlan = false;
    const expected = this.#expectedPlan();
    if (expected !== null) expect(message.value.kind).toBe(expected);
  }

  /** The cheapest plan that the protocol promises for what the node holds. */
  #expectedPlan(): Plan_Kind | null {
    const { replica, stub } = this;
    if (!replica) return null;
    const { cluster, history } = replica;
    if (stub.version === null) return Plan_Kind.SNAPSHOT;
    if (stub.digest === cluster.viewDigest(stub.name)) return Plan_Kind.UP_TO_DATE;
    const { epoch, sequence } = stub.version;
    if (epoch !== history.epoch) return Plan_Kind.BUCKET_REPAIR;
    const commits = history.between(sequence, history.head);
    if (commits === null || commits.some(({ batch }) => batch.moved.includes(stub.name)))
      return Plan_Kind.BUCKET_REPAIR;
    // A node that holds back an entry does not hold what its version says.
    return this.picky ? null : Plan_Kind.DELTA;
  }
}

type Action =
  | { readonly t: 'edit'; readonly edits: readonly Edit[] }
  | { readonly t: 'deliver'; readonly node: number; readonly count: number }
  | { readonly t: 'cut'; readonly node: number }
  | { readonly t: 'connect'; readonly node: number; readonly replica: number; readonly wiped: boolean }
  | { readonly t: 'restart'; readonly replica: number }
  | { readonly t: 'wait'; readonly ms: number };

const anyNode = fc.nat({ max: nodeCount - 1 });
const anyEntry = (key: number) =>
  fc
    .record({ endpoints: fc.array(fc.nat({ max: 5 }), { maxLength: 4 }), nodePort: fc.constantFrom(0, 30001, 30002) })
    .map(({ endpoints, nodePort }) => entry(key, endpoints, nodePort));
const anyEdit: fc.Arbitrary<Edit> = fc.nat({ max: keyCount - 1 }).chain((i) => {
  const key = serviceKey(i);
  return fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        t: fc.constant('class' as const),
        id: fc.constantFrom(...zones),
        key: fc.constant(key),
        entry: fc.option(anyEntry(i)),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        t: fc.constant('node' as const),
        node: anyNode.map((n) => nodeName(`node-${n}`)),
        key: fc.constant(key),
        entry: fc.oneof(anyEntry(i), fc.constant(null), fc.constant(undefined)),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        t: fc.constant('move' as const),
        node: anyNode.map((n) => nodeName(`node-${n}`)),
        id: fc.constantFrom(...zones),
      }),
    },
  );
});
const anyAction: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ t: fc.constant('edit' as const), edits: fc.array(anyEdit, { minLength: 1, maxLength: 4 }) }),
  },
  {
    weight: 10,
    arbitrary: fc.record({ t: fc.constant('deliver' as const), node: anyNode, count: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 2, arbitrary: fc.record({ t: fc.constant('cut' as const), node: anyNode }) },
  {
    weight: 4,
    arbitrary: fc.record({
      t: fc.constant('connect' as const),
      node: anyNode,
      replica: fc.nat({ max: 1 }),
      wiped: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ t: fc.constant('restart' as const), replica: fc.nat({ max: 1 }) }) },
  { weight: 1, arbitrary: fc.record({ t: fc.constant('wait' as const), ms: fc.constantFrom(10, 2000) }) },
);

/** Long enough for frames to cross: short stories prove nothing here. */
const anyStory = fc.array(anyAction, { minLength: 10, maxLength: 120, size: 'max' });

function play(actions: readonly Action[], picky: boolean): { arms: Arm[]; replicas: Replica[] } {
  const clock = new ManualClock();
  const replicas = [new Replica(clock, 1000), new Replica(clock, 2000)];
  const arms = Array.from({ length: nodeCount }, (_, i) => new Arm(i, picky && i === 1));
  let epoch = 3000;
  for (const replica of replicas)
    for (const { stub } of arms) replica.cluster.registerNode(stub.name, zones[Number(stub.name.at(-1)) % 2] ?? '');
  const deliver = (arm: Arm | undefined) =>
    arm !== undefined && [arm.deliverToBrain(), arm.deliverToNode()].includes(true);
  for (const action of actions) {
    const arm = 'node' in action ? arms[action.node] : undefined;
    const replica = 'replica' in action ? replicas[action.replica] : undefined;
    if (action.t === 'edit') for (const each of replicas) each.commit(each.cluster.edit(action.edits));
    if (action.t === 'deliver') for (let i = 0; i < action.count; i++) deliver(arm);
    if (action.t === 'cut') arm?.cut();
    if (action.t === 'connect' && replica) {
      if (action.wiped) arm?.stub.wipe();
      arm?.connect(replica);
    }
    if (action.t === 'restart') replica?.restart(epoch++);
    if (action.t === 'wait') clock.advance(action.ms);
  }
  const settle = () => {
    for (;;) {
      const busy = arms.map((arm) => deliver(arm)).includes(true);
      if (!busy) break;
    }
  };
  settle();
  for (const arm of arms) if (arm.session === null && replicas[0]) arm.connect(replicas[0]);
  settle();
  for (let i = 0; i < 20; i++) {
    clock.advance(60_000);
    for (const arm of arms) if (arm.session === null && replicas[0]) arm.connect(replicas[0]);
    settle();
  }
  return { arms, replicas };
}

describe('a node that is cut off, restarted, wiped, or moved to another controller', () => {
  test('ends with its rule set, by the cheapest plan', () => {
    fc.assert(
      fc.property(anyStory, (actions) => {
        const { arms } = play(actions, false);
        for (const { stub, replica } of arms) {
          const view = replica?.cluster.view(stub.name) ?? new Map();
          expect(stub.held.ruleSet).toEqual(view);
          expect(stub.digest).toBe(digestOf(view));
          const record = replica?.book.find(stub.name);
          expect(record && isCurrent(record)).toBe(true);
        }
      }),
      { numRuns: 200 },
    );
  });

  test('every version converges exactly, once each', () => {
    fc.assert(
      fc.property(anyStory, (actions) => {
        const { replicas, arms } = play(actions, false);
        // Nodes that ended elsewhere still count, until they are forgotten.
        for (const replica of replicas) {
          for (const record of replica.book.records)
            if (record.connection.t === 'disconnected') replica.book.forget(record);
          for (const { sequence } of replica.history.newestFirst()) {
            const convergence = replica.book.convergence(sequence);
            expect(convergence?.programmed).toBe(convergence?.nodes);
          }
        }
        expect(arms).toHaveLength(nodeCount);
      }),
      { numRuns: 200 },
    );
  });

  test('a node that refuses an entry keeps what it had for it, and gets everything else', () => {
    fc.assert(
      fc.property(anyStory, (actions) => {
        const { arms } = play(actions, true);
        for (const { stub, replica } of arms) {
          const view = replica?.cluster.view(stub.name) ?? new Map();
          const held = new Map(stub.held.ruleSet);
          const record = replica?.book.find(stub.name);
          const refused: string[] = [];
          for (const [key, wanted] of view) {
            if (stub.name !== 'node-1' || !pickyKeys.includes(key) || wanted.spec.nodePort % 2 === 0) continue;
            refused.push(key);
            view.delete(key);
            held.delete(key);
          }
          expect([...(record?.refused?.keys() ?? [])].toSorted()).toEqual(refused.toSorted());
          expect(held).toEqual(view);
        }
      }),
      { numRuns: 200 },
    );
  });
});

test('bucket digests name exactly the buckets that differ', () => {
  const sums = DigestSums.of(new Map([[serviceKey(1), entry(1)]]));
  const other = DigestSums.of(new Map([[serviceKey(2), entry(2)]]));
  expect(differingBuckets(sums.toBytes(), sums, new Map())).toEqual([]);
  expect(differingBuckets(other.toBytes(), sums, new Map())).toHaveLength(2);
});
