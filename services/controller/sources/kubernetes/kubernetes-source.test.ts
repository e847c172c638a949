import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { type KubeApiOptions, KubeApiServer, type Request } from '../../../../test/support/kube-api/kube-api-server.ts';
import { kubeSystem, node, service, slice } from '../../../../test/support/kube-api/manifests.ts';
import { expired } from '../../../../test/support/kube-api/status.ts';
import { KubeWatcher } from '../../../../test/support/kube-api/watcher.ts';
import { KubernetesSource } from './kubernetes-source.ts';

/** A cluster with its UID, of which no client may complain at the end. */
async function start(options: KubeApiOptions = {}): Promise<KubeApiServer> {
  const server = await KubeApiServer.start(options);
  server.put('namespaces', kubeSystem('uid-east'));
  onTestFinished(async () => {
    await server[Symbol.asyncDispose]();
    expect(server.complaints).toEqual([]);
  });
  return server;
}

const isSynced = ({ synced, stale }: KubeWatcher): boolean => synced !== null && stale === null;
const fill = (server: KubeApiServer, count: number): void => {
  for (let i = 0; i < count; i++) server.put('services', service(`s-${i}`));
};

describe.each([
  ['streamed', { watchList: true }],
  ['in pages', { watchList: false }],
])('what a cluster has is told, %s', (_, options) => {
  test('as it is found, as it changes, and as it goes', async () => {
    const server = await start(options);
    server.put('services', service('web'));
    server.put('endpointslices', slice('web', '10.244.1.2'));
    server.put('nodes', node('node-1'));
    await using watcher = new KubeWatcher(server);
    await watcher.until(isSynced);
    expect([...watcher.objects.keys()].sort()).toEqual([
      'EndpointSlice default/web-1',
      'Node node-1',
      'Service default/web',
    ]);
    const before = watcher.events.length;
    server.put('endpointslices', slice('web', '10.244.1.2', '10.244.1.3'));
    server.remove('services', 'default/web');
    server.put('nodes', node('node-1', 'zone-b'));
    await watcher.until(() => watcher.changes(before).length === 3);
    expect([...watcher.changes(before)].sort()).toEqual([
      '+ EndpointSlice default/web-1',
      '+ Node node-1',
      '- Service default/web',
    ]);
  });

  test('in small pieces, and compressed', async () => {
    const server = await start({ ...options, pieceBytes: () => 97 });
    fill(server, 700);
    await using watcher = new KubeWatcher(server, { reflector: { pageSize: 600 } });
    await watcher.until(isSynced);
    expect(watcher.objects.size).toBe(700);
  });
});

describe('what is for another proxy, or for none, is not told', () => {
  test('a label that comes removes, and one that goes restores', async () => {
    const server = await start();
    const foreign = { labels: { 'service.kubernetes.io/service-proxy-name': 'other' } };
    server.put('services', service('web', 80, foreign));
    server.put('services', service('api'));
    await using watcher = new KubeWatcher(server);
    await watcher.until(isSynced);
    expect([...watcher.objects.keys()]).toEqual(['Service default/api']);
    const before = watcher.events.length;
    server.put('services', service('web'));
    server.put('services', service('api', 80, foreign));
    await watcher.until(() => watcher.changes(before).length === 2);
    expect(watcher.changes(before)).toEqual(['+ Service default/web', '- Service default/api']);
  });
});

describe('an object that cannot be taken is rejected alone', () => {
  test.each([
    ['no ports', service('bad', 80, { spec: { ports: [] } }), /spec\.ports/],
    ['an absurd port', service('bad', 70_000), /70000/],
    ['no cluster IP', service('bad', 80, { spec: { clusterIP: '' } }), /addresses are given out by its API server/],
    ['a spec that is none', { ...service('bad'), spec: 'oops' }, /spec/],
    ['another kind', { ...service('bad'), kind: 'Widget' }, /answers with a v1 Widget among services/],
  ])('%s', async (_, bad, reason) => {
    const server = await start();
    server.put('services', bad);
    server.put('services', service('good'));
    await using watcher = new KubeWatcher(server);
    await watcher.until(isSynced);
    expect([...watcher.objects.keys()]).toEqual(['Service default/good']);
    expect(watcher.rejections.get('services/default/bad')).toMatch(reason);
    server.put('services', service('bad'));
    await watcher.until(() => watcher.objects.has('Service default/bad') && watcher.rejections.size === 0);
  });

  test('one that turns bad stays as it was, and what was given is not added to', async () => {
    const server = await start();
    const dual = { spec: { ipFamilyPolicy: 'PreferDualStack' } };
    server.put('services', service('web', 80, dual));
    await using watcher = new KubeWatcher(server);
    await watcher.until(isSynced);
    server.put('services', service('web', 70_000));
    await watcher.until(({ rejections }) => rejections.size === 1);
    expect(watcher.objects.get('Service default/web')).toMatchObject({
      service: { ports: [{ port: 80 }], ipFamilyPolicy: 'SingleStack', clusterIps: ['10.96.0.10'] },
    });
  });
});

describe('lists', () => {
  test('a continue token that expires: everything is asked for again, and told once', async () => {
    let pages = 0;
    const server: KubeApiServer = await start({
      watchList: false,
      fault: ({ verb, query, resource }) => {
        if (verb === 'list' && resource === 'services' && query.has('continue') && ++pages === 2) {
          server.put('services', service('s-0', 81));
          server.store.compact();
        }
        return null;
      },
    });
    fill(server, 50);
    await using watcher = new KubeWatcher(server, { reflector: { pageSize: 10 } });
    await watcher.until(isSynced);
    expect(watcher.changes(0)).toHaveLength(50);
    expect(watcher.objects.get('Service default/s-0')).toMatchObject({ service: { ports: [{ port: 81 }] } });
  });

  test('a server that streams no lists is asked for pages, and only once for a stream', async () => {
    const server = await start({ watchList: false, goneAs: 'status' });
    await using watcher = new KubeWatcher(server);
    await watcher.until(isSynced);
    server.store.compact(++server.store.revision);
    for (const watch of [...server.watches]) watch.end();
    const relisted = () => server.requests.filter(({ verb, resource }) => verb === 'list' && resource === 'services');
    server.put('services', service('web'));
    await watcher.until(({ objects }) => objects.size === 1);
    expect(relisted()).toHaveLength(2);
    expect(server.requests.filter(({ query }) => query.has('sendInitialEvents'))).toHaveLength(3);
  });
});

describe('interruptions: nothing is lost, and nothing is told twice', () => {
  test('a watch that ends, breaks, or breaks in the middle of an event is no loss', async () => {
    const server = await start();
    fill(server, 3);
    await using watcher = new KubeWatcher(server);
    await watcher.until(isSynced);
    const before = watcher.events.length;
    for (const [i, interrupt] of (['end', 'destroy', 'cutNext'] as const).entries()) {
      for (const watch of [...server.watches]) watch[interrupt]();
      server.put('services', service(`new-${i}`));
      await watcher.until(({ objects }) => objects.has(`Service default/new-${i}`));
    }
    expect(watcher.changes(before)).toEqual([0, 1, 2].map((i) => `+ Service default/new-${i}`));
    expect(watcher.events.slice(before).some(({ t }) => t === 'stale')).toBe(false);
  });

  test.each(['status', 'event'] as const)(
    '410 Gone as %s: listed again, and only the difference is told',
    async (goneAs) => {
      const server = await start({ goneAs });
      for (const name of ['keep', 'change', 'remove']) server.put('services', service(name));
      await using watcher = new KubeWatcher(server);
      await watcher.until(isSynced);
      const before = watcher.events.length;
      await server.kill();
      await watcher.until(({ stale }) => stale !== null);
      server.put('services', service('change', 81));
      server.put('services', service('new'));
      server.remove('services', 'default/remove');
      server.store.compact();
      await server.listen();
      await watcher.until((it) => isSynced(it) && it.objects.has('Service default/new'));
      expect([...watcher.changes(before)].sort()).toEqual([
        '+ Service default/change',
        '+ Service default/new',
        '- Service default/remove',
      ]);
    },
  );

  test('410 in the middle of a watch', async () => {
    const server = await start();
    fill(server, 3);
    await using watcher = new KubeWatcher(server);
    await watcher.until(isSynced);
    const before = watcher.events.length;
    for (const watch of [...server.watches]) watch.fail(expired(1, 2));
    server.put('services', service('new'));
    await watcher.until(({ objects }) => objects.has('Service default/new'));
    expect(watcher.changes(before)).toEqual(['+ Service default/new']);
  });

  test('killed: stale, nothing removed, and resumed from where it was', async () => {
    const server = await start();
    fill(server, 5);
    await using watcher = new KubeWatcher(server);
    await watcher.until(isSynced);
    await server.kill();
    await watcher.until(({ stale }) => stale !== null);
    expect(watcher.stale).toMatch(/cannot be reached/);
    expect(watcher.objects.size).toBe(5);
    const before = watcher.events.length;
    server.put('services', service('new'));
    const { length } = server.requests;
    await server.listen();
    await watcher.until((it) => isSynced(it) && it.objects.has('Service default/new'));
    expect(watcher.changes(before)).toEqual(['+ Service default/new']);
    // Nothing is listed but one object each, to see that the server is as far as it was.
    const later = server.requests
      .slice(length)
      .filter(({ verb, query }) => verb === 'list' && query.get('limit') !== '1');
    expect(later).toEqual([]);
  });

  test('a server that hangs keeps its connections open: its silence is noticed', async () => {
    let hangs = false;
    const server = await start({ fault: () => (hangs ? { t: 'silent' } : null) });
    fill(server, 1);
    await using watcher = new KubeWatcher(server, { heartbeat: { everyMs: 20, silentMs: 100 } });
    await watcher.until(isSynced);
    hangs = true;
    await watcher.until(({ stale }) => stale !== null);
    expect(watcher.stale).toMatch(/says nothing to GET \/version/);
    hangs = false;
    await watcher.until(isSynced);
    expect(watcher.changes(0)).toHaveLength(1);
  });

  test('a watch that hangs alone is opened anew', async () => {
    const server = await start();
    await using watcher = new KubeWatcher(server, { reflector: { silentMs: 100 } });
    await watcher.until(isSynced);
    for (const watch of [...server.watches]) watch.silence();
    server.put('services', service('web'));
    await watcher.until(({ objects }) => objects.size === 1);
  });

  test('429 and 500 are waited out', async () => {
    let refusals = 0;
    const server = await start({
      fault: ({ verb }) => {
        if (verb === 'get' || ++refusals > 6) return null;
        return refusals % 2 ? { t: 'status', code: 429, retryAfterSeconds: 0.05 } : { t: 'status', code: 500 };
      },
    });
    fill(server, 2);
    await using watcher = new KubeWatcher(server);
    await watcher.until(isSynced);
    expect(watcher.changes(0)).toHaveLength(2);
  });

  test('most of it gone from a list is kept back, and let go when it stays away', async () => {
    const server = await start();
    fill(server, 5);
    await using watcher = new KubeWatcher(server, { lossGuard: { services: 3, holdMs: 300 } });
    await watcher.until(isSynced);
    await server.kill();
    for (let i = 0; i < 5; i++) server.remove('services', `default/s-${i}`);
    server.store.compact();
    await server.listen();
    await watcher.until(({ stale }) => stale?.includes('kept for 0.3 s') === true);
    expect(watcher.objects.size).toBe(5);
    await watcher.until((it) => isSynced(it) && it.objects.size === 0);
  });
});

describe('which cluster, and how far', () => {
  test.each(['error', 'silence'] as const)(
    'restored from a backup, %s: another incarnation, and its state',
    async (futureAs) => {
      const server = await start({ futureAs });
      fill(server, 3);
      const backup = server.store.revision;
      server.put('services', service('later'));
      await using watcher = new KubeWatcher(server);
      await watcher.until(isSynced);
      expect(watcher.synced?.incarnation).toBe('uid-east');
      await server.kill();
      await watcher.until(({ stale }) => stale !== null);
      server.remove('services', 'default/later');
      server.store.revision = backup;
      server.store.compact();
      await server.listen();
      await watcher.until((it) => isSynced(it) && it.synced?.incarnation !== 'uid-east');
      expect(watcher.synced?.incarnation).toMatch(/^uid-east@\d+$/);
      expect(watcher.objects.size).toBe(3);
    },
  );

  test('another cluster at the same address: nothing is taken for known', async () => {
    const server = await start();
    server.put('services', service('web', 80));
    server.put('services', service('only-here'));
    await using watcher = new KubeWatcher(server);
    await watcher.until(isSynced);
    await server.kill();
    await watcher.until(({ stale }) => stale !== null);
    const other = await start({ port: Number(new URL(server.url).port) });
    other.put('namespaces', kubeSystem('uid-west'));
    // The same name at the same revision, and yet another object.
    other.store.revision = 2;
    other.put('services', service('web', 81));
    // A watch from where the first one was would go on here, without a word.
    other.store.revision = 1000;
    await watcher.until((it) => isSynced(it) && it.synced?.incarnation === 'uid-west');
    expect([...watcher.objects.keys()]).toEqual(['Service default/web']);
    expect(watcher.objects.get('Service default/web')).toMatchObject({ service: { ports: [{ port: 81 }] } });
  });

  test('equal states have equal names, bookmarks or not; one that was listed later is caught up with', async () => {
    const server = await start();
    server.put('services', service('web'));
    await using first = new KubeWatcher(server);
    await first.until(isSynced);
    server.put('services', service('api'));
    server.put('endpointslices', slice('web', '10.244.1.2'));
    await first.until(({ objects }) => objects.size === 3);
    const name = first.synced?.parts;
    server.bookmark();
    server.put('nodes', node('node-1'));
    await first.until(({ objects }) => objects.size === 4);
    expect(first.synced?.parts).toMatchObject({
      services: name?.['services'],
      endpointslices: name?.['endpointslices'],
    });

    await using second = new KubeWatcher(server);
    await second.until(isSynced);
    const ahead = second.synced?.parts?.['services'] ?? 0;
    expect(first.synced?.parts?.['services']).toBeLessThan(ahead);
    const before = first.events.length;
    first.source.catchUp?.();
    first.source.catchUp?.();
    await first.until(({ synced }) => (synced?.parts?.['services'] ?? 0) >= ahead);
    expect(first.changes(before)).toEqual([]);
  });
});

describe('what it may do', () => {
  /** From the manifest that is given to people. */
  const rules = (): readonly {
    apiGroups: string[];
    resources: string[];
    verbs: string[];
    resourceNames?: string[];
  }[] => {
    const text = readFileSync(join(import.meta.dirname, '../../../../deploy/kubernetes/rbac.yaml'), 'utf8');
    const documents = parseAllDocuments(text).map((document) => document.toJS());
    return documents.filter(({ kind }) => kind === 'ClusterRole').flatMap(({ rules }) => rules);
  };
  const permissions = () =>
    rules().flatMap(({ apiGroups, resources, verbs, resourceNames = [''] }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) =>
          verbs.flatMap((verb) => resourceNames.map((name) => `${verb} ${group}/${resource} ${name}`)),
        ),
      ),
    );
  const permissionOf = ({ verb, group, resource, name }: Request) => `${verb} ${group}/${resource} ${name}`;

  test('is what deploy/kubernetes/rbac.yaml allows: no less, and no more', async () => {
    const allowed = new Set(permissions());
    const server = await start({ watchList: false, allows: (request) => allowed.has(permissionOf(request)) });
    fill(server, 2);
    await using watcher = new KubeWatcher(server);
    await watcher.until(isSynced);
    expect(new Set(server.requests.map(permissionOf))).toEqual(allowed);
  });

  test('what it may not is said, with what to do', async () => {
    const server = await start({ allows: ({ resource }) => resource !== 'endpointslices' });
    await using watcher = new KubeWatcher(server);
    await watcher.until(({ stale }) => stale !== null);
    expect(watcher.stale).toMatch(/endpointslices is forbidden.*rbac\.yaml/);
    expect(watcher.synced).toBeNull();
  });
});

test('a context that is not there ends the start, with those that are', async () => {
  const server = await start();
  await using watcher = new KubeWatcher(server);
  const logger = pino({ level: 'silent' });
  const source = new KubernetesSource({ name: 'x', context: 'west', kubeconfig: watcher.config.path, logger });
  await expect(source.run(() => undefined, new AbortController().signal)).rejects.toThrow(
    /no context west; it has east/,
  );
});
