import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { nodeName, type ServicePortKey } from '@octoplane/model/keys.ts';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { KubeApiServer, type Request } from '../../test/support/kube-api/kube-api-server.ts';
import { KubeconfigFile } from '../../test/support/kube-api/kubeconfig-file.ts';
import { kubeSystem, node, service, slice } from '../../test/support/kube-api/manifests.ts';
import { type Manifest, parsed, recordOf } from '../../test/support/kube-api/store.ts';
import { controllerOptions } from '../../test/support/stub-nodes/controller-options.ts';
import { StubClient } from '../../test/support/stub-nodes/stub-client.ts';
import { StubNode } from '../../test/support/stub-nodes/stub-node.ts';
import { runController } from './main.ts';

const gate = 'octoplane.io/programmed';

const pod = (conditions: Readonly<Record<string, string>>): Manifest => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'web-a', namespace: 'default', labels: { 'octoplane.io/gate': 'programmed' } },
  spec: { readinessGates: [{ conditionType: gate }] },
  status: {
    podIPs: [{ ip: '10.244.1.2' }],
    conditions: Object.entries(conditions).map(([type, status]) => ({ type, status })),
  },
});

/** As the EndpointSlice controller has a Pod: ready when the Pod is. */
const sliceOf = (ready: boolean): Manifest => ({
  ...slice('web'),
  endpoints: [
    {
      addresses: ['10.244.1.2'],
      conditions: { ready, serving: ready, terminating: false },
      targetRef: { kind: 'Pod', namespace: 'default', name: 'web-a' },
    },
  ],
});

const permissions = (file: string): readonly string[] =>
  parseAllDocuments(readFileSync(join(import.meta.dirname, '../../deploy/kubernetes', file), 'utf8'))
    .map((document) => document.toJS())
    .filter(({ kind }) => kind === 'ClusterRole')
    .flatMap(({ rules }) => rules)
    .flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group: string) =>
        resources.flatMap((resource: string) => verbs.map((verb: string) => `${verb} ${group}/${resource}`)),
      ),
    );
const permissionOf = ({ verb, group, resource }: Request) => `${verb} ${group}/${resource}`;

/** A cluster with a Service, a Pod behind it whose containers are ready, and the rights of deploy/kubernetes. */
async function cluster() {
  const allowed = new Set([...permissions('rbac.yaml'), ...permissions('rbac-gates.yaml')]);
  const server = await KubeApiServer.start({
    watchList: false,
    allows: (request) => allowed.has(permissionOf(request)),
  });
  onTestFinished(async () => {
    await server[Symbol.asyncDispose]();
    expect(server.complaints).toEqual([]);
  });
  server.put('namespaces', kubeSystem('uid-east'));
  for (const name of ['node-1', 'node-2']) server.put('nodes', node(name));
  server.put('services', service('web'));
  server.put('endpointslices', sliceOf(false));
  server.put('pods', pod({ ContainersReady: 'True', Ready: 'False' }));
  const pods = server.store.collection(server.resource('pods'));
  const conditionsNow = (): Readonly<Record<string, unknown>> => {
    const stored = pods.get('default/web-a');
    const conditions = recordOf(stored ? parsed(stored)['status'] : null)['conditions'] as readonly Manifest[];
    return Object.fromEntries(conditions.map(({ type, status }) => [type, status]));
  };
  const untilOpen = () =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (conditionsNow()[gate] !== 'True') return;
        pods.listeners.delete(look);
        resolve();
      };
      pods.listeners.add(look);
      look();
    });
  return { server, conditionsNow, untilOpen, allowed };
}

async function controllerOf(server: KubeApiServer) {
  const config = new KubeconfigFile({ east: { server: server.url } });
  const stop = new AbortController();
  const listening = Promise.withResolvers<{ grpc: number; http: number }>();
  const run = runController(
    controllerOptions({
      sources: [{ name: 'east', kind: 'kubernetes', target: '' }],
      // Never over by itself: the Node objects say whom to wait for.
      settleMs: 3_600_000,
      kubeconfig: config.path,
      readinessGates: { ignoreGoneMs: 3_600_000 },
    }),
    { logger: pino({ level: 'silent' }), signal: stop.signal, onListening: listening.resolve },
  );
  run.catch(listening.reject);
  onTestFinished(async () => {
    stop.abort();
    await run;
    config[Symbol.dispose]();
  });
  const { grpc } = await listening.promise;
  /** Resolves whenever the node has acknowledged something, once `isThere`. */
  return (name: string) => {
    const stub = new StubNode({ name: nodeName(name) });
    let look: () => void = () => undefined;
    const client = new StubClient({
      node: stub,
      address: `127.0.0.1:${grpc}`,
      credentials: credentials.createInsecure(),
      onAnswer: () => look(),
    });
    client.connect();
    onTestFinished(() => client.cut());
    const until = (isThere: (node: StubNode) => boolean) =>
      new Promise<void>((resolve) => {
        look = () => {
          if (isThere(stub)) resolve();
        };
        look();
      });
    return { stub, until };
  };
}

const key = 'default/web:80/TCP' as ServicePortKey;
const routes = ({ held }: StubNode) => held.ruleSet.get(key)?.endpoints.some(({ ip }) => ip === '10.244.1.2') ?? false;

test('a Pod is routed to before it is ready, and ready once every node can', async () => {
  const { server, conditionsNow, untilOpen, allowed } = await cluster();
  const connect = await controllerOf(server);
  const first = connect('node-1');
  await first.until(routes);
  expect(conditionsNow()).toEqual({ ContainersReady: 'True', Ready: 'False' });

  const second = connect('node-2');
  await second.until(routes);
  await untilOpen();
  // The conditions of others are left alone.
  expect(conditionsNow()).toEqual({ ContainersReady: 'True', Ready: 'False', [gate]: 'True' });

  // What kubelet and the EndpointSlice controller do then changes no rule: the next frame is of the next Service.
  const frames = first.stub.frames;
  server.put('pods', pod({ ContainersReady: 'True', Ready: 'True', [gate]: 'True' }));
  server.put('endpointslices', sliceOf(true));
  server.put('services', { ...service('next'), spec: { ...service('next').spec, clusterIP: '10.96.0.11' } });
  await first.until(({ held }) => held.ruleSet.has('default/next:80/TCP' as ServicePortKey));
  expect(first.stub.frames).toBe(frames + 1);
  expect(routes(first.stub)).toBe(true);

  expect(new Set(server.requests.map(permissionOf))).toEqual(allowed);
});

test('a Pod whose containers are not ready is not routed to', async () => {
  const { server } = await cluster();
  server.put('pods', pod({ ContainersReady: 'False', Ready: 'False' }));
  const connect = await controllerOf(server);
  const first = connect('node-1');
  await first.until(({ held }) => held.ruleSet.has(key));
  expect(routes(first.stub)).toBe(false);
  server.put('pods', pod({ ContainersReady: 'True', Ready: 'False' }));
  await first.until(routes);
  server.put('pods', pod({ ContainersReady: 'False', Ready: 'False' }));
  await first.until((stub) => !routes(stub));
});
