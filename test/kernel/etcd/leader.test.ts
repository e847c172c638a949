import { systemClock } from '@octoplane/controller/clock.ts';
import { EtcdLeader, leads } from '@octoplane/controller/leader/etcd-leader.ts';
import { parseEndpoints } from '@octoplane/controller/sources/etcd/endpoints.ts';
import { EtcdStore } from '@octoplane/controller/sources/etcd/etcd-store.ts';
import { leaderKey } from '@octoplane/controller/sources/etcd/layout.ts';
import { EtcdMembers } from '@octoplane/controller/sources/etcd/members.ts';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EtcdServer } from './etcd-server.ts';
import { Relay } from './relay.ts';
import { service, Writer } from './writer.ts';

let server: EtcdServer;
beforeAll(async () => {
  server = await EtcdServer.start();
});
afterAll(() => server[Symbol.asyncDispose]());

/** Says in `order` when a term begins and when its work has been stopped. */
function candidate(identity: string, url: string, order: string[], signal: AbortSignal) {
  const began = Promise.withResolvers<void>();
  const leader = new EtcdLeader({
    members: new EtcdMembers(parseEndpoints(url)),
    identity,
    ttlSeconds: 1,
    clock: systemClock,
    logger: pino({ level: 'silent' }),
  });
  const done = leader.lead(async (term) => {
    order.push(`${identity} leads`);
    began.resolve();
    await new Promise<void>((resolve) => term.signal.addEventListener('abort', () => resolve(), { once: true }));
    order.push(`${identity} stops`);
  }, signal);
  return { began: began.promise, done };
}

test('one at a time; one that is cut off stops before the next begins', async () => {
  using relay = await Relay.to(server.port);
  const [stopA, stopB] = [new AbortController(), new AbortController()];
  const order: string[] = [];
  const a = candidate('a', relay.url, order, stopA.signal);
  await a.began;
  const b = candidate('b', server.url, order, stopB.signal);
  relay.refuse();
  await b.began;
  expect(order).toEqual(['a leads', 'a stops', 'b leads']);
  stopA.abort();
  await a.done;
  stopB.abort();
  await b.done;
});

test('one that ends hands over at once, and leaves no key behind', async () => {
  const [stopA, stopB] = [new AbortController(), new AbortController()];
  const order: string[] = [];
  const a = candidate('a', server.url, order, stopA.signal);
  await a.began;
  const b = candidate('b', server.url, order, stopB.signal);
  stopA.abort();
  await a.done;
  await b.began;
  expect(order).toEqual(['a leads', 'a stops', 'b leads']);
  stopB.abort();
  await b.done;
  using writer = new Writer(server.url);
  expect(await writer.read(leaderKey)).toBeNull();
});

test('a write that is on its way when the term is over is refused by etcd itself', async () => {
  using writer = new Writer(server.url);
  const store = new EtcdStore(writer.client, [{ ip: '10.96.0.0', length: 24 }], Date.now, leads('a'));
  await writer.put(leaderKey, 'a');
  expect(await store.apply(service('web'), new AbortController().signal)).toBe('created');
  await writer.put(leaderKey, 'b');
  await expect(store.apply(service('web', 81), new AbortController().signal)).rejects.toThrow(
    'another controller leads',
  );
  await writer.delete(leaderKey);
  await expect(store.apply(service('web', 81), new AbortController().signal)).rejects.toThrow(
    'another controller leads',
  );
});
