import { nodeName } from '@octoplane/model/keys.ts';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { synced } from '../../../test/support/churn.ts';
import { connectInMemory } from '../../../test/support/stub-nodes/connect-in-memory.ts';
import { ManualClock } from '../../../test/support/stub-nodes/manual-clock.ts';
import { StubNode } from '../../../test/support/stub-nodes/stub-node.ts';
import { NodeBook } from '../acks/node-book.ts';
import { History } from '../history/history.ts';
import type { SourceEvent } from '../sources/source.ts';
import { Fleet } from '../stream/fleet.ts';
import { clusterSet, names, nodeObject, service, slice } from './testing/clusters.ts';

test('a node whose Node object appears in another cluster is given that cluster’s rule set', async () => {
  const set = await clusterSet();
  const history = new History({ epoch: 1 });
  const book = new NodeBook(history, set);
  const clock = new ManualClock();
  const fleet = new Fleet({ cluster: set, history, book, clock, logger: pino({ level: 'silent' }), release: 'test' });
  const take = async (source: string, events: readonly SourceEvent[]) => {
    const commits = set.apply(source, events).map((batch) => history.commit(batch, clock.nowUs()));
    if (set.inSync) fleet.open();
    await fleet.committed(commits);
    await new Promise((resolve) => setImmediate(resolve));
  };
  const name = nodeName('n-1');
  const stub = new StubNode({ name });
  const stream = connectInMemory(fleet, stub);
  for (const cluster of names) await take(cluster, [synced()]);
  stream.hello();
  await take('east', [service('web'), slice('web', ['10.240.0.1'])]);
  expect(stub.digest).toBe(set.viewDigest(name));
  await take('west', [nodeObject('n-1')]);
  await take('west', [service('web')]);
  await take('west', [slice('web', ['10.241.0.1'])]);
  expect(stub.digest).toBe(set.viewDigest(name));
  expect([...stub.held.ruleSet.values()].flatMap(({ endpoints }) => endpoints.map(({ ip }) => ip))).toEqual([
    '10.241.0.1',
  ]);
  expect(book.find(name)?.owes).toBeNull();
});
