import { type NodeName, nodeName } from '@octoplane/model/keys.ts';
import { FakeCluster } from '../../../../test/support/stub-nodes/fake-cluster.ts';
import { ManualClock } from '../../../../test/support/stub-nodes/manual-clock.ts';
import { History } from '../../history/history.ts';
import { Census, type CensusOptions } from '../census.ts';
import { NodeBook } from '../node-book.ts';
import type { NodeRecord } from '../node-record.ts';

export const introduction = { zone: 'a', driver: 'stub', release: '1', peer: 'memory', held: null, digest: null };
const nothing = new Map();

/** Ten nodes in zone a, one in zone b, all at version 1, and time that the test moves. */
export function bookOf() {
  const cluster = new FakeCluster();
  const history = new History({ epoch: 1 });
  const book = new NodeBook(history, cluster);
  const clock = new ManualClock();
  const commit = (edits: Parameters<FakeCluster['edit']>[0]) =>
    book.committed(history.commit(cluster.edit(edits), clock.nowUs())).map(({ name }) => name);
  const ack = (record: NodeRecord, sequence = history.head, heldBack: ReadonlyMap<string, unknown> = nothing) =>
    book.programmed(
      record,
      { sequence, digest: 0n, durations: undefined, heldBack: heldBack as never, frame: null },
      clock.nowUs(),
    );
  const join = (name: NodeName, zone = 'a') => {
    cluster.registerNode(name, zone);
    const record = book.connected(name, { ...introduction, zone }, clock.nowUs());
    ack(record);
    return record;
  };
  commit([]);
  const nodes = Array.from({ length: 11 }, (_, i) => join(nodeName(`node-${i}`), i < 10 ? 'a' : 'b'));
  const node = (i: number): NodeRecord => {
    const record = nodes[i];
    if (!record) throw new RangeError(`${i}`);
    return record;
  };
  const leave = (record: NodeRecord) => book.disconnected(record, clock.nowUs());
  const censusOf = (options: Partial<CensusOptions> = {}) => {
    const census = new Census({ book, nodeObjects: () => new Map(), clock, hasRoster: true, settleMs: 0, ...options });
    census.open();
    return census;
  };
  return { cluster, history, book, clock, commit, ack, join, leave, nodes, node, censusOf };
}
