import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestAuthority, writeTlsFiles } from '../../support/stub-nodes/pki.ts';
import { EtcdServer } from './etcd-server.ts';
import { Watcher } from './watcher.ts';
import { key, service, slice, Writer } from './writer.ts';

describe('three members', () => {
  let members: readonly EtcdServer[];
  beforeAll(async () => {
    members = await EtcdServer.startCluster(3);
  });
  afterAll(async () => {
    for (const member of members) await member[Symbol.asyncDispose]();
  });
  const urls = () => members.map(({ url }) => url).join(',');
  const member = (i: number) => members[i] ?? expect.fail('no such member');

  test('one is killed, then another: the watch goes on at another, nothing is lost and nothing told twice', async () => {
    await using watcher = new Watcher({ urls: urls() });
    await watcher.until(({ synced }) => synced !== null);
    for (let gone = 0; gone < 2; gone++) {
      await member(gone).kill();
      using writer = new Writer(member((gone + 1) % 3).url);
      const before = watcher.events.length;
      // The remaining two may have to elect a leader first: a put that they refuse meanwhile is tried again.
      await untilDone(() => writer.put(key('Service', `s-${gone}`), service(`s-${gone}`)));
      await watcher.until(({ objects, stale }) => stale === null && objects.has(`Service default/s-${gone}`));
      expect(new Set(watcher.changes(before))).toEqual(new Set([`+ Service default/s-${gone}`]));
      await member(gone).start();
    }
  });

  test('one stands still, its connections open: it is left for another', async () => {
    await using watcher = new Watcher({ urls: urls(), progressMs: 50, stallMs: 500 });
    await watcher.until(({ synced }) => synced !== null);
    member(0).signal('SIGSTOP');
    try {
      using writer = new Writer(member(1).url);
      await untilDone(() => writer.put(key('Service', 'still'), service('still')));
      await watcher.until(({ objects, stale }) => stale === null && objects.has('Service default/still'));
    } finally {
      member(0).signal('SIGCONT');
    }
  });

  test('two are killed, no quorum: stale, and nothing removed', async () => {
    await using watcher = new Watcher({ urls: urls() });
    await watcher.until(({ synced }) => synced !== null);
    const { size } = watcher.objects;
    expect(size).toBeGreaterThan(0);
    await member(1).kill();
    await member(2).kill();
    await watcher.until(({ stale }) => stale !== null);
    expect(watcher.objects.size).toBe(size);
    await member(1).start();
    await watcher.until(({ stale }) => stale === null);
    expect(watcher.objects.size).toBe(size);
  });
});

test('https with a client certificate; without one, stale with a reason', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'octoplane-etcd-tls-'));
  const authority = await TestAuthority.create();
  const tls = writeTlsFiles(join(directory, 'server'), await authority.server(), authority.cert);
  const client = writeTlsFiles(
    join(directory, 'client'),
    await authority.issue({ commonName: 'brain' }),
    authority.cert,
  );
  try {
    await using server = await EtcdServer.start({ tls });
    using writer = new Writer(server.url, {
      ca: readFileSync(client.ca),
      cert: readFileSync(client.cert),
      key: readFileSync(client.key),
    });
    await writer.put(key('EndpointSlice', 'a-1'), slice('a', '10.244.1.2'));
    await using watcher = new Watcher({ urls: server.url, tls: client });
    await watcher.until(({ objects }) => objects.has('EndpointSlice default/a-1'));

    await using without = new Watcher({ urls: server.url, tls: { ...client, cert: null, key: null } });
    await without.until(({ stale }) => stale !== null);
    await using absent = new Watcher({ urls: server.url, tls: { ...client, cert: join(directory, 'none.pem') } });
    await absent.until(({ stale }) => stale?.includes('none.pem cannot be read') === true);

    await using stranger = new Watcher({ urls: server.url, tls: { ...client, ca: null } });
    await stranger.until(({ stale }) => stale !== null);
    for (const other of [without, absent, stranger]) expect(other.synced).toBeNull();
  } finally {
    rmSync(directory, { recursive: true });
  }
});

/** For what may fail while members elect a leader; the test's own timeout says when that is too late. */
async function untilDone(act: () => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await act();
      return;
    } catch (error) {
      if (!(error instanceof Error) || !/did not answer in time|leader|connection|timed out/.test(error.message))
        throw error;
    }
  }
}
