import { nodeName } from '@octoplane/model/keys.ts';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { synced, upsert } from '../../../test/support/churn.ts';
import { connectInMemory } from '../../../test/support/stub-nodes/connect-in-memory.ts';
import { ManualClock } from '../../../test/support/stub-nodes/manual-clock.ts';
import { StubNode } from '../../../test/support/stub-nodes/stub-node.ts';
import { projected, syntheticNode, syntheticService, syntheticSlices } from '../../../test/support/synthetic.ts';
import { NodeBook } from '../acks/node-book.ts';
import { covers } from '../acks/node-record.ts';
import { Allocator } from '../allocate/allocator.ts';
import { Compute } from '../compute/compute.ts';
import { History } from '../history/history.ts';
import type { SourceEvent } from '../sources/source.ts';
import { ClusterState } from '../state/cluster-state.ts';
import { Fleet } from './fleet.ts';

const cluster = { services: 1, endpoints: 2, nodes: 1, zones: 1 };
const [name, zone] = [nodeName('node-1'), 'zone-0'];

test('a node that said Hello before its Node object was read gets what concerns its zone', async () => {
  const state = new ClusterState({ sources: ['file'], allocator: new Allocator({ serviceCidrs: [] }) });
  const compute = new Compute(state);
  const history = new History({ epoch: 1 });
  const book = new NodeBook(history, compute);
  const clock = new ManualClock();
  const logger = pino({ level: 'silent' });
  const views = Object.assign(compute, { leaving: new Set<never>(), serves: () => compute.inSync });
  const fleet = new Fleet({ cluster: views, history, book, clock, logger, release: 'test' });
  const take = async (events: readonly SourceEvent[]) => {
    const batch = compute.apply('file', events);
    if (batch === null) throw new Error('the events change nothing');
    history.commit(batch, clock.nowUs());
    fleet.open();
    const commit = history.at(history.head);
    if (commit) await fleet.committed([commit]);
  };

  const stub = new StubNode({ name });
  const stream = connectInMemory(fleet, stub);
  stream.hello();

  await take([upsert(projected(syntheticNode(0, cluster))), upsert(projected(syntheticService(0, cluster))), synced()]);
  await idle();
  expect(compute.classOf(name)).toBe(zone);
  for (const slice of syntheticSlices(0, cluster)) await take([upsert(projected(slice))]);
  await idle();

  const record = book.find(name);
  expect(record && covers(record, history.head)).toBe(true);
  expect(stub.held.ruleSet).toEqual(compute.ruleSet(name));
  expect(stub.digest).toBe(compute.viewDigest(name));
});

const idle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
