import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { KubeApiServer, type Request } from '../../../test/support/kube-api/kube-api-server.ts';
import { KubeconfigFile } from '../../../test/support/kube-api/kubeconfig-file.ts';
import { kubeSystem, service, slice } from '../../../test/support/kube-api/manifests.ts';
import { KubeWatcher } from '../../../test/support/kube-api/watcher.ts';
import { controllerOptions } from '../../../test/support/stub-nodes/controller-options.ts';
import { systemClock } from '../clock.ts';
import { KubeLeader } from '../leader/kube-leader.ts';
import { runController } from '../main.ts';
import { KubeClient } from '../sources/kubernetes/kube-client.ts';
import { KubeconfigAccess } from '../sources/kubernetes/kubeconfig-access.ts';

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

/** From the manifests that are given to people. */
const rules: readonly Rule[] = ['rbac.yaml', 'rbac-multicluster.yaml'].flatMap((file) => {
  const text = readFileSync(join(import.meta.dirname, '../../../deploy/kubernetes', file), 'utf8');
  return parseAllDocuments(text).flatMap((document) => document.toJS()?.rules ?? []);
});
const allows = ({ verb, group, resource, name }: Request): boolean =>
  rules.some(
    ({ apiGroups, resources, verbs, resourceNames }) =>
      apiGroups.includes(group) &&
      resources.includes(resource) &&
      verbs.includes(verb) &&
      (resourceNames?.includes(name) ?? true),
  );

let east: KubeApiServer;
let west: KubeApiServer;
let config: KubeconfigFile;
beforeEach(async () => {
  east = await KubeApiServer.start({ allows });
  west = await KubeApiServer.start({ allows });
  east.put('namespaces', kubeSystem('uid-east'));
  west.put('namespaces', kubeSystem('uid-west'));
  config = new KubeconfigFile({ east: { server: east.url }, west: { server: west.url } });
});
afterEach(async () => {
  for (const server of [east, west]) {
    await server[Symbol.asyncDispose]();
    expect(server.complaints).toEqual([]);
  }
  config[Symbol.dispose]();
});

function controller() {
  const stop = new AbortController();
  const options = controllerOptions({
    sources: [
      { name: 'east', kind: 'kubernetes', target: 'east' },
      { name: 'west', kind: 'kubernetes', target: 'west' },
    ],
    clustersetCidrs: [{ ip: '10.112.0.0', length: 16 }],
    kubeconfig: config.path,
  });
  const done = runController(options, { logger: pino({ level: 'silent' }), signal: stop.signal });
  return async () => {
    stop.abort();
    await done;
  };
}

const serviceExport = {
  apiVersion: 'multicluster.x-k8s.io/v1alpha1',
  kind: 'ServiceExport',
  metadata: { name: 'web', namespace: 'default', creationTimestamp: '2026-01-01T00:00:00Z' },
};
const valid = { type: 'Valid', status: 'True', reason: 'Valid', message: 'exported' };
const conditionsIn = (watcher: KubeWatcher) => {
  const told = watcher.objects.get('ServiceExport default/web');
  return told?.kind === 'ServiceExport' ? told.export.conditions : [];
};

test('imports and conditions are written through the API, with the rights of the manifests and no others', async () => {
  for (const server of [east, west]) {
    server.put('services', service('web'));
    server.put('endpointslices', slice('web', server === east ? '10.244.1.2' : '10.245.1.2'));
    server.put('serviceexports', serviceExport);
  }
  const end = controller();
  await using seen = new KubeWatcher(west, { multicluster: true });
  await seen.until(({ objects }) => objects.has('ServiceImport default/web'));
  await seen.until((watcher) => conditionsIn(watcher).length === 2);
  expect(conditionsIn(seen)).toEqual([
    valid,
    { type: 'Conflict', status: 'False', reason: 'NoConflicts', message: 'all exports agree' },
  ]);
  const found = seen.objects.get('ServiceImport default/web');
  if (found?.kind !== 'ServiceImport') expect.fail('no import');
  await seen.until(({ objects }) => {
    const told = objects.get('ServiceImport default/web');
    return told?.kind === 'ServiceImport' && told.import.shape.includes('"clusters":["east","west"]');
  });

  // Something changes while the first cluster, where the lease is, does not answer: it is written when it is back.
  await east.kill();
  west.put('services', service('web', 81));
  await east.listen();
  await seen.until((watcher) => conditionsIn(watcher).some(({ reason }) => reason === 'PortConflict'));
  const last = seen.objects.get('ServiceImport default/web');
  expect(last?.kind === 'ServiceImport' && last.import.ips).toEqual(found.import.ips);

  for (const server of [east, west]) server.remove('serviceexports', 'default/web');
  await seen.until(({ objects }) => !objects.has('ServiceImport default/web'));
  await end();
  const denied = [...east.requests, ...west.requests].filter((request) => !allows(request));
  expect(denied).toEqual([]);
});

test('a cluster without the multi-cluster API is a cluster that exports nothing', async () => {
  await using plain = await KubeApiServer.start({
    resources: ['services', 'nodes', 'namespaces', 'endpointslices'].map((plural) => east.resource(plural)),
  });
  plain.put('namespaces', kubeSystem('uid-plain'));
  plain.put('services', service('web'));
  await using seen = new KubeWatcher(plain, { multicluster: true });
  await seen.until(({ synced, stale }) => synced !== null && stale === null);
  expect([...seen.objects.keys()]).toEqual(['Service default/web']);
});

test('one leads at a time, and hands over when it ends', async () => {
  const order: string[] = [];
  const candidate = (identity: string, signal: AbortSignal) => {
    const access = new KubeconfigAccess({ context: 'east', file: config.path, clock: systemClock });
    const client = new KubeClient({ access, clock: systemClock, userAgent: identity });
    const [began, stopped] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const logger = pino({ level: 'silent' });
    const leader = new KubeLeader({ client, identity, leaseSeconds: 1, clock: systemClock, logger });
    const done = leader
      .lead(async (term) => {
        order.push(`${identity} leads`);
        began.resolve();
        await new Promise<void>((resolve) => term.signal.addEventListener('abort', () => resolve(), { once: true }));
        order.push(`${identity} stops`);
        stopped.resolve();
      }, signal)
      .finally(() => client.close());
    return { began: began.promise, stopped: stopped.promise, done };
  };
  const [stopA, stopB] = [new AbortController(), new AbortController()];
  const a = candidate('a', stopA.signal);
  await a.began;
  const b = candidate('b', stopB.signal);
  stopA.abort();
  await a.done;
  await b.began;
  // Cut off: its own term is over before anybody else could begin one.
  await east.kill();
  await b.stopped;
  await east.listen();
  stopB.abort();
  await b.done;
  expect(order.slice(0, 4)).toEqual(['a leads', 'a stops', 'b leads', 'b stops']);
});
