import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EtcdServer } from './etcd-server.ts';
import { Relay } from './relay.ts';
import { Watcher } from './watcher.ts';
import { key, service, slice, Writer } from './writer.ts';

let server: EtcdServer;
let writer: Writer;

/** One server for tests that leave it running; each starts from its own empty layout. */
beforeAll(async () => {
  server = await EtcdServer.start();
  writer = new Writer(server.url);
});
afterAll(async () => {
  writer[Symbol.dispose]();
  await server[Symbol.asyncDispose]();
});

const clear = async (...names: string[]): Promise<void> => {
  for (const name of names) await writer.delete(name);
};

describe('what is in etcd is told', () => {
  test('as it is found, as it changes, and as it goes', async () => {
    await writer.put(key('Service', 'a'), service('a'));
    const listed = await writer.put(key('EndpointSlice', 'a-1'), slice('a', '10.244.1.2'));
    await using watcher = new Watcher({ urls: server.url });
    await watcher.until(({ synced }) => synced !== null);
    expect([...watcher.objects.keys()].sort()).toEqual(['EndpointSlice default/a-1', 'Service default/a']);
    expect(watcher.synced?.revision).toBe(listed);

    const before = watcher.events.length;
    await writer.put(key('EndpointSlice', 'a-1'), slice('a', '10.244.1.2', '10.244.1.3'));
    const removed = await writer.delete(key('Service', 'a'));
    await watcher.until(({ synced }) => synced?.revision === removed);
    expect(watcher.changes(before)).toEqual(['+ EndpointSlice default/a-1', '- Service default/a']);
    await clear(key('EndpointSlice', 'a-1'));
  });

  test('more keys than a page has', async () => {
    const names = Array.from({ length: 450 }, (_, i) => `page-${i}`);
    await Promise.all(names.map((name) => writer.put(key('Service', name), service(name))));
    await using watcher = new Watcher({ urls: server.url });
    await watcher.until(({ synced }) => synced !== null);
    expect(watcher.objects.size).toBe(450);
    await clear(...names.map((name) => key('Service', name)));
  });

  test('what ends with its lease is removed', async () => {
    await using watcher = new Watcher({ urls: server.url });
    await writer.put(key('EndpointSlice', 'leased-1'), slice('leased', '10.244.1.9'), await writer.lease(1));
    await watcher.until(({ objects }) => objects.has('EndpointSlice default/leased-1'));
    await watcher.until(({ objects }) => !objects.has('EndpointSlice default/leased-1'));
  });
});

test('two replicas in one state vouch for different revisions of it, until the one that lags catches up', async () => {
  await using first = new Watcher({ urls: server.url });
  await first.until(({ synced }) => synced !== null);
  const foreign = await writer.put('/not/ours', 'x');
  await using second = new Watcher({ urls: server.url });
  await second.until(({ synced }) => synced !== null);
  expect(second.synced?.revision).toBeGreaterThanOrEqual(foreign);
  expect(first.synced?.revision).toBeLessThan(foreign);
  const told = first.events.length;
  for (let i = 0; i < 100; i++) first.source.catchUp?.();
  await first.until(({ synced }) => (synced?.revision ?? 0) >= foreign);
  expect(first.changes(told)).toEqual([]);
  // A hundred nodes that wait cost one write.
  expect(first.synced?.revision).toBe(foreign + 1);
  await writer.delete('/not/ours');
});

describe('what cannot be taken is rejected alone, with its key and the reason', () => {
  const root = '/octoplane/v1/';
  test.each([
    ['outside the layout', `${root}pods/default/x`, service('x'), /outside the layout/],
    ['a name too few', `${root}services/x`, service('x'), /outside the layout/],
    ['not JSON', `${root}services/default/x`, '{"kind"', /is not JSON/],
    ['1 MB', `${root}services/default/x`, `"${'x'.repeat(1_000_000)}"`, /bytes; write less/],
    ['under another name', `${root}services/default/x`, service('y'), /is Service default\/y; write it under/],
    ['of another kind', `${root}nodes/x`, { apiVersion: 'v1', kind: 'Pod' }, /is a v1 Pod/],
    ['an absurd field', `${root}services/default/x`, service('x', 70_000), /spec\.ports\[0\]\.port: 70000/],
  ])('%s', async (_, bad, value, reason) => {
    await writer.put(bad, value);
    await writer.put(key('Service', 'good'), service('good'));
    await using watcher = new Watcher({ urls: server.url });
    await watcher.until(({ synced }) => synced !== null);
    expect([...watcher.objects.keys()]).toEqual(['Service default/good']);
    expect(watcher.rejections.get(bad)).toMatch(reason);
    await clear(bad, key('Service', 'good'));
    await watcher.until(({ objects, rejections }) => objects.size === 0 && rejections.size === 0);
  });

  test('a good object that turns bad stays as it was', async () => {
    await using watcher = new Watcher({ urls: server.url });
    await writer.put(key('Service', 'a'), service('a'));
    await watcher.until(({ objects }) => objects.has('Service default/a'));
    await writer.put(key('Service', 'a'), 'oops');
    await watcher.until(({ rejections }) => rejections.size === 1);
    expect(watcher.objects.has('Service default/a')).toBe(true);
    await writer.put(key('Service', 'a'), service('a', 81));
    await watcher.until(({ rejections }) => rejections.size === 0);
    await clear(key('Service', 'a'));
  });
});

describe('interruptions', () => {
  test('a restart of etcd: stale, nothing removed, and nothing lost', async () => {
    await using own = await EtcdServer.start();
    using other = new Writer(own.url);
    await other.put(key('Service', 'a'), service('a'));
    await using watcher = new Watcher({ urls: own.url });
    await watcher.until(({ synced }) => synced !== null);
    await own.kill();
    await watcher.until(({ stale }) => stale !== null);
    expect(watcher.objects.size).toBe(1);
    const before = watcher.events.length;
    await own.start();
    using later = new Writer(own.url);
    await later.put(key('Service', 'b'), service('b'));
    await watcher.until(({ objects, stale }) => stale === null && objects.has('Service default/b'));
    expect(watcher.changes(before)).toEqual(['+ Service default/b']);
  });

  test('compacted while away: listed again, and only the difference is told', async () => {
    using relay = await Relay.to(server.port);
    const names = ['keep', 'change', 'remove'];
    for (const name of names) await writer.put(key('Service', name), service(name));
    await using watcher = new Watcher({ urls: relay.url });
    await watcher.until(({ synced }) => synced !== null);
    const before = watcher.events.length;
    relay.refuse();
    await watcher.until(({ stale }) => stale !== null);
    await writer.put(key('Service', 'change'), service('change', 81));
    await writer.put(key('Service', 'new'), service('new'));
    await writer.compact(await writer.delete(key('Service', 'remove')));
    relay.accept();
    await watcher.until(({ stale }) => stale === null);
    expect([...watcher.changes(before)].sort()).toEqual([
      '+ Service default/change',
      '+ Service default/new',
      '- Service default/remove',
    ]);
    await clear(...['keep', 'change', 'new'].map((name) => key('Service', name)));
  });

  test('cut twice while it catches up: every change is told once', async () => {
    using relay = await Relay.to(server.port);
    await using watcher = new Watcher({ urls: relay.url });
    await watcher.until(({ synced }) => synced !== null);
    relay.refuse();
    await watcher.until(({ stale }) => stale !== null);
    const padding = 'x'.repeat(2_000);
    const padded = (name: string, port: number) => ({ ...service(name, port), padding });
    const names = Array.from({ length: 20 }, (_, i) => `churn-${i}`);
    let last = 0;
    for (let round = 1; round <= 60; round++)
      for (const name of names) last = await writer.put(key('Service', name), padded(name, round));
    const before = watcher.events.length;
    relay.cutAfter(200_000, 200_000);
    relay.accept();
    await watcher.until(({ synced }) => synced?.revision === last);
    expect(relay.cuts).toBe(2);
    const told = watcher.events.slice(before).flatMap((event) => (event.t === 'upserted' ? [event.object] : []));
    const revisions = told.map((object) => (object.kind === 'Service' ? object.service.meta.revision : ''));
    expect(new Set(revisions).size).toBe(revisions.length);
    for (const object of watcher.objects.values()) expect(object).toMatchObject({ service: { ports: [{ port: 60 }] } });
    expect(watcher.objects.size).toBe(20);
    await clear(...names.map((name) => key('Service', name)));
  });

  test('a member that falls silent is left for another', async () => {
    using relay = await Relay.to(server.port);
    await using watcher = new Watcher({ urls: `${relay.url},${server.url}`, progressMs: 50, stallMs: 500 });
    await watcher.until(({ synced }) => synced !== null);
    relay.silence();
    await watcher.until(({ stale }) => stale !== null);
    expect(watcher.stale).toMatch(/said nothing for 0\.5 s/);
    await writer.put(key('Service', 'a'), service('a'));
    await watcher.until(({ objects, stale }) => stale === null && objects.has('Service default/a'));
    await clear(key('Service', 'a'));
  });

  test('another, empty etcd at the same address: most is kept back, and let go when it stays away', async () => {
    await using full = await EtcdServer.start();
    await using empty = await EtcdServer.start();
    using other = new Writer(full.url);
    for (let i = 0; i < 5; i++) await other.put(key('Service', `s-${i}`), service(`s-${i}`));
    using relay = await Relay.to(full.port);
    await using watcher = new Watcher({ urls: relay.url, lossGuard: { services: 3, holdMs: 300 } });
    await watcher.until(({ synced }) => synced !== null);
    relay.redirect(empty.port);
    await watcher.until(({ stale }) => stale?.includes('kept for 0.3 s') === true);
    expect(watcher.objects.size).toBe(5);
    await watcher.until(({ stale, objects }) => stale === null && objects.size === 0);
  });
});
