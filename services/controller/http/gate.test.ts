import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { nodeName } from '@octoplane/model/keys.ts';
import { Registry } from 'prom-client';
import { afterEach, describe, expect, test } from 'vitest';
import { entry, serviceKey } from '../../../test/support/stub-nodes/entries.ts';
import type { Edit } from '../../../test/support/stub-nodes/fake-cluster.ts';
import { EndpointIndex } from '../acks/endpoint-index.ts';
import { bookOf } from '../acks/testing/book.ts';
import { Gate } from './gate.ts';
import { httpServer } from './http-server.ts';

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
});

const web = (endpoints: number[]): Edit => ({ t: 'class', id: 'a', key: serviceKey(1), entry: entry(1, endpoints) });

/** Ten nodes that have 10.244.0.7:8080 in their kernels, and one that has nothing to do with it. */
async function serve({ everyNode = true, nodeObjects = [] as readonly string[] } = {}) {
  const fixture = bookOf();
  const { book, clock, cluster, history, ack, nodes } = fixture;
  const advances = new Set<() => void>();
  const stop = new AbortController();
  const endpoints = new EndpointIndex(history, cluster);
  const commit = (edits: readonly Edit[]) => {
    fixture.commit(edits);
    for (const one of history.between(history.head - 1, history.head) ?? []) endpoints.committed(one);
    for (const advance of advances) advance();
  };
  commit([web([1, 7])]);
  for (const record of nodes) ack(record);
  const gate = new Gate({
    history,
    book,
    clock,
    endpoints,
    views: cluster,
    census: fixture.censusOf({
      nodeObjects: () => new Map(nodeObjects.map((name) => [nodeName(name), { name, zone: null }])),
    }),
    signal: stop.signal,
    clients: [],
    everyNode,
    onAdvance(callback) {
      advances.add(callback);
      return () => advances.delete(callback);
    },
  });
  const server = httpServer({ whyNotReady: () => null }, new Registry(), gate);
  await once(server.listen(0, '::'), 'listening');
  cleanUps.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const get = async (path: string, host = '127.0.0.1') => {
    const response = await fetch(`http://${host}:${port}${path}`);
    return { code: response.status, text: (await response.text()).trimEnd() };
  };
  /** Resolves when so many calls wait. */
  const waiting = async (calls: number) => {
    while (advances.size !== calls) await new Promise((resolve) => setImmediate(resolve));
  };
  return { ...fixture, commit, get, waiting, stop, server };
}

describe('/gone', () => {
  test('blocks until the last node has acknowledged', async () => {
    const { commit, ack, nodes, get, waiting } = await serve();
    const answer = get('/gone?endpoint=10.244.0.7:8080');
    await waiting(1);
    commit([web([1])]);
    for (const record of nodes.slice(1)) ack(record);
    expect(await Promise.race([answer, get('/healthz')])).toMatchObject({ text: 'ok' });
    for (const record of nodes) ack(record);
    expect(await answer).toEqual({ code: 200, text: 'gone: 10.244.0.7:8080 on 11 of 11 nodes' });
  });

  test('answers 504 with the late nodes by name when the time is up', async () => {
    const { commit, ack, leave, node, nodes, get, waiting, clock } = await serve();
    const answer = get('/gone?endpoint=10.244.0.7:8080&timeout=30s');
    await waiting(1);
    commit([web([1])]);
    for (const record of nodes.slice(2)) ack(record);
    leave(node(0));
    clock.advance(30_000);
    const { code, text } = await answer;
    expect(code).toBe(504);
    expect(text.split('\n')).toEqual([
      'not gone: 10.244.0.7:8080 after 30 s:',
      'node-0: disconnected for 30 s',
      'node-1: slow: owes version 3 for 30 s',
    ]);
  });

  test('does not wait for nodes that are gone for longer than it was told, and names them', async () => {
    const { commit, ack, leave, node, nodes, get, waiting, clock } = await serve();
    leave(node(0));
    const answer = get('/gone?endpoint=10.244.0.7&timeout=60s&ignore-gone=10s');
    await waiting(1);
    commit([web([1])]);
    for (const record of nodes.slice(1)) ack(record);
    await get('/healthz');
    clock.advance(10_000);
    expect(await answer).toEqual({
      code: 200,
      text: 'gone: 10.244.0.7 on 10 of 10 nodes; not counted: node-0',
    });
  });

  test('says that the controller goes away', async () => {
    const { get, waiting, stop } = await serve();
    const answer = get('/gone?endpoint=10.244.0.7:8080');
    await waiting(1);
    stop.abort();
    expect((await answer).code).toBe(503);
  });

  test('forgets a caller that hangs up', async () => {
    const { waiting, server } = await serve();
    const { port } = server.address() as AddressInfo;
    const hangUp = new AbortController();
    const call = fetch(`http://127.0.0.1:${port}/gone?endpoint=10.244.0.7`, { signal: hangUp.signal });
    await waiting(1);
    hangUp.abort();
    await expect(call).rejects.toThrow();
    await waiting(0);
  });
});

test('a Node object whose daemon is not here may route anywhere, unless the controller knows all nodes', async () => {
  const nodeObjects = ['node-0', 'elsewhere'];
  const careful = await serve({ nodeObjects });
  const answer = careful.get('/gone?endpoint=10.244.0.9&timeout=1s');
  await careful.waiting(1);
  careful.clock.advance(1000);
  expect(await answer).toMatchObject({ code: 504 });
  expect((await answer).text).toContain('elsewhere: has a Node object, and no daemon of it has connected');
  const knowing = await serve({ nodeObjects, everyNode: false });
  expect(await knowing.get('/gone?endpoint=10.244.0.9')).toEqual({
    code: 200,
    text: 'gone: 10.244.0.9 on 11 of 11 nodes; not counted: elsewhere',
  });
});

test('/programmed counts the nodes that are to have it', async () => {
  const { get } = await serve();
  expect(await get('/programmed?endpoint=10.244.0.7:8080')).toEqual({
    code: 200,
    text: 'programmed: 10.244.0.7:8080 on 10 of 10 nodes',
  });
});

test.each([
  ['/gone?endpoint=web', 'write endpoint=IP:PORT'],
  ['/gone?port=x', 'write endpoint=IP:PORT'],
  ['/gone?endpoint=10.0.0.1&port=1', 'not both'],
  ['/gone?timeout=5', 'write durations'],
  ['/gone?service=web', 'is not NAMESPACE/NAME'],
  ['/gone?endpont=10.0.0.1', 'there is no parameter endpont'],
])('%s is answered with what is wrong', async (path, text) => {
  const { get } = await serve();
  const answer = await get(path);
  expect(answer.code).toBe(400);
  expect(answer.text).toContain(text);
});
