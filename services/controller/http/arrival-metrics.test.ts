import { nodeName } from '@octoplane/model/keys.ts';
import { expect, test } from 'vitest';
import { entry, serviceKey } from '../../../test/support/stub-nodes/entries.ts';
import { FakeCluster } from '../../../test/support/stub-nodes/fake-cluster.ts';
import { NodeBook } from '../acks/node-book.ts';
import type { Cause } from '../compute/batch.ts';
import { History } from '../history/history.ts';
import { ArrivalMetrics } from './arrival-metrics.ts';
import { formFor, metricsText, newMetricsRegistry } from './metrics-text.ts';

const second = 1_000_000;
const sinceUs = 1000 * second;
const nodes = ['a', 'b', 'c', 'd'].map(nodeName);

/** Four nodes at version 1; commits at second 2000 of an unhurried clock. */
function setUp() {
  const cluster = new FakeCluster();
  const history = new History({ epoch: 1 });
  const registry = newMetricsRegistry();
  const arrivals = new ArrivalMetrics({
    registry,
    sinceUs,
    traceOf: ({ sequence }) => (sequence === 2 ? 'ab12' : null),
  });
  const book = new NodeBook(history, cluster, [arrivals]);
  const introduction = { zone: '-', driver: 'stub', release: '1', peer: 'memory', held: null, digest: null };
  book.committed(history.commit(cluster.edit([]), sinceUs));
  const records = nodes.map((name) => book.connected(name, introduction, sinceUs));
  const ack = (i: number, atUs: number) => {
    const record = records[i];
    if (!record) throw new RangeError(`${i}`);
    const { head } = history;
    book.programmed(
      record,
      { sequence: head, digest: 0n, durations: undefined, heldBack: new Map(), frame: null },
      atUs,
    );
  };
  records.forEach((_, i) => {
    ack(i, sinceUs);
  });
  const commit = (endpoints: number[], causes: Cause[] = []) => {
    const batch = cluster.edit([{ t: 'class', id: '-', key: serviceKey(1), entry: entry(1, endpoints) }]);
    book.committed(history.commit({ ...batch, causes }, 2000 * second));
  };
  const samples = async (name: string) =>
    (await metricsText(registry, formFor('application/openmetrics-text')))
      .split('\n')
      .filter((line) => line.startsWith(name));
  return { commit, ack, samples };
}

const cause = (parts: Partial<Cause>): Cause => ({
  source: 'test',
  object: 'EndpointSlice default/web-1',
  isRemoval: false,
  revision: '1',
  changedAtUs: 1998 * second,
  observedAtUs: 1999 * second,
  traceparent: null,
  ...parts,
});

test('one observation per change and percentile, of removals too, and its trace beside it', async () => {
  const { commit, ack, samples } = setUp();
  commit([1, 2]);
  for (let i = 0; i < 4; i++) ack(i, 2000 * second + (i + 1) * 100_000);
  commit([1]);
  ack(0, 2001 * second);
  ack(1, 2002 * second);
  expect((await samples('octoplane_convergence_seconds_sum')).sort()).toEqual([
    'octoplane_convergence_seconds_sum{kind="added",percentile="100"} 0.4',
    'octoplane_convergence_seconds_sum{kind="added",percentile="50"} 0.2',
    'octoplane_convergence_seconds_sum{kind="added",percentile="99"} 0.4',
    'octoplane_convergence_seconds_sum{kind="removed",percentile="50"} 2',
  ]);
  const exemplars = (await samples('octoplane_convergence_seconds_bucket')).filter((line) => line.includes('#'));
  expect(exemplars).toHaveLength(3);
  for (const line of exemplars) expect(line).toMatch(/kind="added".* # \{trace_id="ab12"\} 0\.[24] /);
});

test.each([
  ['from the time of the endpoints’ change, the oldest', [cause({}), cause({ changedAtUs: 1990 * second })], 11],
  ['not before this line of versions, which an old file may claim', [cause({ changedAtUs: 1 })], 2],
  ['nor after we saw it, which another clock may claim', [cause({ changedAtUs: 9999 * second })], 2],
  ['not for a removal', [cause({ isRemoval: true })], null],
  ['nor for a Service', [cause({ object: 'Service default/web' })], null],
])('network programming duration: %s', async (_, causes, seconds) => {
  const { commit, ack, samples } = setUp();
  commit([1, 2], causes);
  for (let i = 0; i < 4; i++) ack(i, 2001 * second);
  expect(await samples('kubeproxy_network_programming_duration_seconds_sum')).toEqual([
    `kubeproxy_network_programming_duration_seconds_sum ${4 * (seconds ?? 0)}`,
  ]);
  expect(await samples('kubeproxy_network_programming_duration_seconds_count')).toEqual([
    `kubeproxy_network_programming_duration_seconds_count ${seconds === null ? 0 : 4}`,
  ]);
});
