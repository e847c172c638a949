import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { entry, serviceKey } from '../../../test/support/stub-nodes/entries.ts';
import type { Edit } from '../../../test/support/stub-nodes/fake-cluster.ts';
import type { GatedPod } from '../sources/kubernetes/gated-pod.ts';
import { KubeError } from '../sources/kubernetes/kube-error.ts';
import { EndpointIndex } from './endpoint-index.ts';
import { ReadinessGates } from './readiness-gates.ts';
import { bookOf } from './testing/book.ts';

const web = (endpoints: number[]): Edit => ({ t: 'class', id: 'a', key: serviceKey(1), entry: entry(1, endpoints) });

const pod: GatedPod = { name: 'default/web-7', uid: 'u1', ips: ['10.244.0.7'], lacksOnlyGate: true, isOpen: false };

interface Write {
  readonly pod: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

function gatesOf({ failures = [] as KubeError[] } = {}) {
  const fixture = bookOf();
  const { book, clock, cluster, history } = fixture;
  const advances = new Set<() => void>();
  const endpoints = new EndpointIndex(history, cluster);
  const writes: Write[] = [];
  const gates = new ReadinessGates({
    history,
    book,
    clock,
    endpoints,
    views: cluster,
    census: fixture.censusOf(),
    signal: new AbortController().signal,
    logger: pino({ level: 'silent' }),
    ignoreGoneMs: 30_000,
    everyNode: true,
    onAdvance(callback) {
      advances.add(callback);
      return () => advances.delete(callback);
    },
  });
  const commit = (edits: readonly Edit[]) => {
    fixture.commit(edits);
    for (const one of history.between(history.head - 1, history.head) ?? []) endpoints.committed(one);
    for (const advance of advances) advance();
  };
  const east = {
    name: 'east',
    async patchStatus({ name, uid }: Pick<GatedPod, 'name' | 'uid'>, status: object) {
      const failure = failures.shift();
      if (failure) throw failure;
      const [condition] = (status as { conditions: Omit<Write, 'pod'>[] }).conditions;
      if (condition) writes.push({ ...condition, pod: `${name} ${uid}` });
    },
  };
  const changed = (one: GatedPod | null, name = pod.name) => gates.podChanged(east, name, one);
  /** What has happened has had its effect. */
  const settle = async () => {
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  return { ...fixture, gates, commit, changed, writes, settle };
}

describe('a gate', () => {
  test('opens when the last node that is to route to the Pod has acknowledged', async () => {
    const { commit, changed, ack, nodes, writes, settle, gates } = gatesOf();
    changed(pod);
    commit([web([1, 7])]);
    for (const record of nodes.slice(1, 10)) ack(record);
    await settle();
    expect(writes).toEqual([]);
    expect(gates.size).toBe(1);
    for (const record of nodes.slice(0, 1)) ack(record);
    await settle();
    expect(writes).toMatchObject([
      { pod: 'default/web-7 u1', status: 'True', reason: 'Programmed', message: 'on 10 of 10 nodes' },
    ]);
    changed({ ...pod, isOpen: true });
    expect(gates.size).toBe(0);
  });

  test('that stays closed names the late nodes in the condition', async () => {
    const { commit, changed, ack, leave, node, nodes, writes, settle, clock } = gatesOf();
    changed(pod);
    commit([web([1, 7])]);
    for (const record of nodes.slice(2)) ack(record);
    leave(node(0));
    clock.advance(5_000);
    await settle();
    expect(writes).toMatchObject([
      {
        status: 'False',
        reason: 'NotProgrammed',
        message: 'on 8 of 10 nodes; late: node-0 (disconnected for 5 s), node-1 (slow: owes version 2 for 5 s)',
      },
    ]);
  });

  test('is not held up by a node that is gone for long', async () => {
    const { commit, changed, ack, leave, node, nodes, writes, settle, clock } = gatesOf();
    changed(pod);
    commit([web([1, 7])]);
    for (const record of nodes.slice(1)) ack(record);
    leave(node(0));
    await settle();
    clock.advance(30_000);
    await settle();
    expect(writes.at(-1)).toMatchObject({ status: 'True', message: 'on 9 of 9 nodes' });
  });

  test('of a Pod that no node is to route to lets it through', async () => {
    const { changed, writes, settle, clock } = gatesOf();
    changed(pod);
    await settle();
    clock.advance(5_000);
    await settle();
    expect(writes).toEqual([]);
    clock.advance(10_000);
    await settle();
    expect(writes).toMatchObject([{ status: 'True', reason: 'NotRouted' }]);
  });

  test('is not written for a Pod that is gone, not ready for it, or open', async () => {
    const { commit, changed, ack, nodes, writes, settle, gates } = gatesOf();
    changed(pod);
    changed({ ...pod, lacksOnlyGate: false });
    changed({ ...pod, isOpen: true }, 'default/other');
    changed(pod);
    changed(null);
    commit([web([7])]);
    for (const record of nodes) ack(record);
    await settle();
    expect(writes).toEqual([]);
    expect(gates.size).toBe(0);
  });

  test('of a Pod that took the name of another is a gate of its own', async () => {
    const { commit, changed, ack, nodes, writes, settle } = gatesOf();
    changed(pod);
    changed({ ...pod, uid: 'u2', ips: ['10.244.0.9'] });
    commit([web([7])]);
    for (const record of nodes) ack(record);
    await settle();
    expect(writes).toEqual([]);
    commit([web([9])]);
    for (const record of nodes) ack(record);
    await settle();
    expect(writes).toMatchObject([{ pod: 'default/web-7 u2', status: 'True' }]);
  });

  test('is written again until it is taken, unless its Pod is gone', async () => {
    const busy = new KubeError('BUSY', 'later');
    const { commit, changed, ack, nodes, writes, settle, clock } = gatesOf({ failures: [busy, busy] });
    changed(pod);
    commit([web([7])]);
    for (const record of nodes) ack(record);
    for (let i = 0; i < 3; i++) {
      await settle();
      clock.advance(1000);
    }
    await settle();
    expect(writes).toMatchObject([{ status: 'True' }]);
    const gone = gatesOf({ failures: [new KubeError('NOT_FOUND', 'gone')] });
    gone.changed(pod);
    gone.commit([web([7])]);
    for (const record of gone.nodes) gone.ack(record);
    await gone.settle();
    gone.clock.advance(10_000);
    await gone.settle();
    expect(gone.writes).toEqual([]);
  });
});
