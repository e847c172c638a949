import { runController } from '@octoplane/controller/main.ts';
import { EtcdStore } from '@octoplane/controller/sources/etcd/etcd-store.ts';
import { type Fields, isFields } from '@octoplane/model/findings.ts';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { controllerOptions } from '../../support/stub-nodes/controller-options.ts';
import { EtcdServer } from './etcd-server.ts';
import { Watcher } from './watcher.ts';
import { service, Writer } from './writer.ts';

const never = new AbortController().signal;
let etcds: readonly [EtcdServer, EtcdServer];
let writers: readonly Writer[];
let stores: readonly [EtcdStore, EtcdStore];

beforeAll(async () => {
  etcds = [await EtcdServer.start(), await EtcdServer.start()];
  writers = etcds.map(({ url }) => new Writer(url));
  const [east, west] = writers.map(({ client }) => new EtcdStore(client, [{ ip: '10.96.0.0', length: 16 }], Date.now));
  if (east && west) stores = [east, west];
});
afterAll(async () => {
  for (const writer of writers) writer[Symbol.dispose]();
  for (const etcd of etcds) await etcd[Symbol.asyncDispose]();
});

/** Two of these are two replicas. */
function controller() {
  const stop = new AbortController();
  const [east, west] = etcds;
  const options = controllerOptions({
    sources: [
      { name: 'east', kind: 'etcd', target: east.url },
      { name: 'west', kind: 'etcd', target: west.url },
    ],
    serviceCidrs: [{ ip: '10.96.0.0', length: 16 }],
    clustersetCidrs: [{ ip: '10.112.0.0', length: 16 }],
  });
  const done = runController(options, { logger: pino({ level: 'silent' }), signal: stop.signal });
  return {
    done,
    async end() {
      stop.abort();
      await done;
    },
  };
}

const exportOf = (name: string) => ({
  apiVersion: 'multicluster.x-k8s.io/v1alpha1',
  kind: 'ServiceExport',
  metadata: { name, namespace: 'default' },
});
const fieldsAt = (value: unknown, ...path: string[]): unknown =>
  path.reduce((at: unknown, key) => (isFields(at) ? at[key] : undefined), value);

async function manifestOf(store: EtcdStore, kind: 'ServiceExport' | 'ServiceImport'): Promise<Fields | null> {
  return (await store.get({ kind, name: 'default/web' }, never))?.manifest ?? null;
}
async function conditionsOf(store: EtcdStore): Promise<readonly string[]> {
  const list = fieldsAt(await manifestOf(store, 'ServiceExport'), 'status', 'conditions');
  return (Array.isArray(list) ? list : []).map((each: Fields) => `${each['type']} ${each['status']} ${each['reason']}`);
}

test('the leader records imports and conditions in every cluster, and another takes over', async () => {
  const replicas = [controller(), controller()];
  // What comes of it is waited for on the watch: the source tells of every write.
  await using seen = new Watcher({ urls: etcds[1].url });
  for (const store of stores) await store.apply(service('web'), never);
  await stores[0].apply(exportOf('web'), never);
  await seen.until(({ objects }) => objects.has('ServiceImport default/web'));
  const ips = fieldsAt(await manifestOf(stores[1], 'ServiceImport'), 'spec', 'ips');
  expect(ips).toEqual([expect.stringMatching(/^10\.112\./)]);

  await stores[1].apply(exportOf('web'), never);
  const conditionsTold = (status: string) => (watcher: Watcher) => {
    const told = watcher.objects.get('ServiceExport default/web');
    return (
      told?.kind === 'ServiceExport' &&
      told.export.conditions.some(({ type, status: is }) => type === 'Conflict' && is === status)
    );
  };
  await seen.until(conditionsTold('False'));
  expect(await conditionsOf(stores[1])).toEqual(['Valid True Valid', 'Conflict False NoConflicts']);

  // Whichever leads ends; the other one writes from then on, and gives out no other address.
  await replicas[0]?.end();
  await stores[1].apply({ ...service('web'), spec: { ports: [{ port: 80 }], sessionAffinity: 'ClientIP' } }, never);
  await seen.until(conditionsTold('True'));
  expect(await conditionsOf(stores[1])).toEqual(['Valid True Valid', 'Conflict True SessionAffinityConflict']);
  replicas[0] = controller();
  await replicas[1]?.end();
  await stores[1].apply(service('web'), never);
  await seen.until(conditionsTold('False'));
  await using alsoSeen = new Watcher({ urls: etcds[0].url });
  for (const watcher of [seen, alsoSeen]) {
    await watcher.until(({ objects }) => {
      const told = objects.get('ServiceImport default/web');
      return told?.kind === 'ServiceImport' && told.import.shape.includes('"clusters":["east","west"]');
    });
  }
  for (const store of stores) expect(fieldsAt(await manifestOf(store, 'ServiceImport'), 'spec', 'ips')).toEqual(ips);
  for (const store of stores) await store.delete({ kind: 'ServiceExport', name: 'default/web' }, never);
  await seen.until(({ objects }) => !objects.has('ServiceImport default/web'));
  await replicas[0]?.end();
});
