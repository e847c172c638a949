import { systemClock } from '@octoplane/controller/clock.ts';
import { parseEndpoints } from '@octoplane/controller/sources/etcd/endpoints.ts';
import { underLease } from '@octoplane/controller/sources/etcd/lease.ts';
import { EtcdMembers } from '@octoplane/controller/sources/etcd/members.ts';
import { keepRegistered } from '@octoplane/controller/sources/etcd/registration.ts';
import { serviceName } from '@octoplane/model/keys.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EtcdServer } from './etcd-server.ts';
import { Relay } from './relay.ts';
import { Watcher } from './watcher.ts';
import { key, Writer } from './writer.ts';

let server: EtcdServer;
beforeAll(async () => {
  server = await EtcdServer.start();
});
afterAll(() => server[Symbol.asyncDispose]());

const never = new AbortController().signal;
const lease = { ttlSeconds: 1, clock: systemClock };
const workload = {
  service: serviceName('default', 'web'),
  addresses: ['10.244.1.7'],
  ports: [{ name: '', port: 8080, protocol: 'TCP' as const }],
  node: null,
  zone: null,
};
const slice = 'EndpointSlice default/web-10-244-1-7-8080';

test('what hangs on a lease stays while it is renewed, and goes at once when it is given back', async () => {
  using writer = new Writer(server.url);
  await using watcher = new Watcher({ urls: server.url });
  const register = new AbortController();
  const states: string[] = [];
  const members = new EtcdMembers(parseEndpoints(server.url));
  const onState = ({ t }: { t: string }) => states.push(t);
  const done = keepRegistered(workload, { members, ...lease, onState }, register.signal);
  await watcher.until(({ objects }) => objects.has(slice));
  const from = watcher.events.length;
  // Another lease of one second, which nobody renews, runs out; its key is put after ours was renewed once at least.
  await writer.put(key('Service', 'clock'), { ...service, metadata: { name: 'clock' } }, await writer.lease(2));
  await watcher.until(({ objects }) => objects.has('Service default/clock'));
  await watcher.until(({ objects }) => !objects.has('Service default/clock'));
  expect(watcher.changes(from)).toEqual(['+ Service default/clock', '- Service default/clock']);
  register.abort();
  await done;
  await watcher.until(({ objects }) => !objects.has(slice));
  expect(states).toEqual(['registered']);
});

test('cut off for longer than the lease: it is lost here no later than there, and registered again', async () => {
  using relay = await Relay.to(server.port);
  await using watcher = new Watcher({ urls: server.url });
  const stop = new AbortController();
  const order: string[] = [];
  const lost = Promise.withResolvers<void>();
  const members = new EtcdMembers(parseEndpoints(relay.url));
  const onState = ({ t }: { t: string }) => {
    if (order.at(-1) !== t) order.push(t);
    if (t === 'lost') lost.resolve();
  };
  const done = keepRegistered(workload, { members, ...lease, onState }, stop.signal);
  await watcher.until(({ objects }) => objects.has(slice));
  relay.refuse();
  await watcher.until(({ objects }) => {
    if (objects.has(slice)) return false;
    order.push('gone');
    return true;
  });
  await lost.promise;
  relay.accept();
  await watcher.until(({ objects }) => objects.has(slice));
  stop.abort();
  await done;
  expect(order.slice(0, 3)).toEqual(['registered', 'lost', 'gone']);
});

test('a lease that was revoked by somebody else is noticed at the next renewal', async () => {
  using writer = new Writer(server.url);
  const members = new EtcdMembers(parseEndpoints(server.url));
  const reason = await underLease(
    members,
    { ttlSeconds: 60, clock: { ...systemClock, after: (ms, callback) => systemClock.after(ms / 100, callback) } },
    async ({ id, signal }) => {
      await writer.revoke(id);
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      return signal.reason;
    },
    never,
  );
  expect(String(reason)).toContain('no such lease');
});

test('etcd restarts: the lease lives on', async () => {
  await using own = await EtcdServer.start();
  await using watcher = new Watcher({ urls: own.url });
  const stop = new AbortController();
  const states: string[] = [];
  const members = new EtcdMembers(parseEndpoints(own.url));
  const onState = ({ t }: { t: string }) => states.push(t);
  const done = keepRegistered(workload, { members, ttlSeconds: 5, clock: systemClock, onState }, stop.signal);
  await watcher.until(({ objects }) => objects.has(slice));
  await own.kill();
  await watcher.until(({ stale }) => stale !== null);
  const from = watcher.events.length;
  await own.start();
  await watcher.until(({ stale }) => stale === null);
  stop.abort();
  await done;
  await watcher.until(({ objects }) => !objects.has(slice));
  expect(states).toEqual(['registered']);
  expect(watcher.changes(from)).toEqual([`- ${slice}`]);
});

const service = { apiVersion: 'v1', kind: 'Service', spec: { ports: [{ port: 80 }] } };
