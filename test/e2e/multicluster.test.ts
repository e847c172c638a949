import { SourceStatus_State } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EtcdServer } from '../kernel/etcd/etcd-server.ts';
import { KubeconfigFile } from '../support/kube-api/kubeconfig-file.ts';
import { kubeSystem } from '../support/kube-api/manifests.ts';
import type { ServeReport, ServeRequest } from '../support/kube-api/serve.ts';
import type { Manifest } from '../support/kube-api/store.ts';
import { Cluster, nodeManifest } from '../support/lab/cluster.ts';
import { Lab } from '../support/lab/lab.ts';
import { serviceManifest, sliceManifest } from '../support/lab/manifests.ts';
import { Child } from '../support/stub-nodes/child.ts';

/** Two clusters, one in etcd and one behind an API server, on one flat network: node-1 is of east, node-2 of west. */
let lab: Lab;
let etcd: EtcdServer;
let api: Child<ServeRequest, ServeReport>;
let config: KubeconfigFile;
let cluster: Cluster;

beforeAll(async () => {
  lab = await Lab.create({ families: ['IPv4'], nodes: 2, podsPerNode: 2 });
  const ip = lab.place('brain').addresses.IPv4;
  const within = <T>(start: () => T): T => lab.within('brain', start);
  etcd = await EtcdServer.start({ ip, within });
  api = within(() => new Child('../kube-api/serve.ts'));
  const { url } = await api.ask({ t: 'start', port: 0 }, 'serving');
  await api.ask({ t: 'put', plural: 'namespaces', manifest: kubeSystem('uid-west') }, 'done');
  const [, second] = lab.nodes;
  if (second) await api.ask({ t: 'put', plural: 'nodes', manifest: nodeManifest(second) }, 'done');
  config = new KubeconfigFile({ west: { server: url } });
  cluster = await Cluster.start(lab, {
    driver: 'nftables',
    sources: [`east=etcd:${etcd.url}`, 'west=kubernetes:west'],
    controllerFlags: ['--kubeconfig', config.path, '--clusterset-cidr', '10.112.0.0/16'],
  });
  for (const pod of ['pod-1a', 'pod-2a']) await lab.serve(pod, 'IPv4', 8080);
});
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  config?.[Symbol.dispose]();
  await api?.kill();
  await etcd?.[Symbol.asyncDispose]();
  await lab?.[Symbol.asyncDispose]();
});

const clusterIp = '10.96.0.10';
const ports = [{ port: 8080 }];
const service = serviceManifest('web', { clusterIP: clusterIp, ports: [{ port: 80 }] });
const serviceExport = {
  apiVersion: 'multicluster.x-k8s.io/v1alpha1',
  kind: 'ServiceExport',
  metadata: { name: 'web', namespace: 'default', creationTimestamp: '2026-01-01T00:00:00Z' },
};
const octoplane = (args: string, input?: string) => {
  const { status, stdout, stderr } = cluster.octoplane(args.split(' '), input);
  expect(status, stderr).toBe(0);
  return stdout;
};
const client = '--insecure --insecure-allow-remote';
const toEast = (manifest: object) => octoplane(`apply -f - --etcd ${etcd.url}`, JSON.stringify(manifest));
const toWest = (plural: string, manifest: Manifest) => api.ask({ t: 'put', plural, manifest }, 'done');

/** Everybody who answers there, of many connections. */
async function answering(from: string, ip: string): Promise<readonly string[]> {
  const by = new Set<string>();
  for (let i = 0; i < 20; i++) {
    const outcome = await lab.dial(from, ip, 80);
    by.add(outcome.t === 'answered' ? outcome.by : outcome.t);
  }
  return [...by].sort();
}

test('a Service in two clusters, exported from both', async () => {
  toEast({
    apiVersion: 'v1',
    kind: 'List',
    items: [service, sliceManifest(lab, 'web', ['pod-1a'], ports)],
  });
  await toWest('services', { ...service });
  await toWest('endpointslices', sliceManifest(lab, 'web', ['pod-2a'], ports));
  await cluster.untilStatus(({ endpoints, nodesCurrent }) => endpoints === 2 && nodesCurrent === 2);
  // One name, one cluster IP, and each cluster its own.
  octoplane(`wait default/web ${client}`);
  expect(await answering('pod-1b', clusterIp)).toEqual(['pod-1a']);
  expect(await answering('pod-2b', clusterIp)).toEqual(['pod-2a']);

  toEast(serviceExport);
  await toWest('serviceexports', serviceExport);
  await cluster.untilStatus(({ endpoints }) => endpoints === 6);
  octoplane(`wait default/web.clusterset ${client}`);
  const { spec } = JSON.parse(octoplane(`get serviceimport web -o json --etcd ${etcd.url}`)) as {
    spec: { ips: [string] };
  };
  const [vip] = spec.ips;
  for (const from of ['pod-1b', 'pod-2b']) expect(await answering(from, vip)).toEqual(['pod-1a', 'pod-2a']);
  expect(await answering('pod-1b', clusterIp)).toEqual(['pod-1a']);
  expect(octoplane(`get serviceexports --etcd ${etcd.url}`)).toMatch(/default\/web +True Valid +False NoConflicts/);

  // A cluster that falls silent is stale, not empty.
  await api.kill();
  const status = await cluster.untilStatus(({ sources }) =>
    sources.some(({ state }) => state === SourceStatus_State.STALE),
  );
  expect(status.sources.map(({ name, state }) => [name, state])).toEqual([
    ['east', SourceStatus_State.SYNCED],
    ['west', SourceStatus_State.STALE],
  ]);
  expect(await answering('pod-1b', vip)).toEqual(['pod-1a', 'pod-2a']);
  expect(await answering('pod-2b', clusterIp)).toEqual(['pod-2a']);
  // And the others go on.
  octoplane(`delete -f - --etcd ${etcd.url}`, JSON.stringify(serviceExport));
  await cluster.untilStatus(({ endpoints }) => endpoints === 4);
  octoplane(`wait default/web.clusterset ${client}`);
  for (const from of ['pod-1b', 'pod-2b']) expect(await answering(from, vip)).toEqual(['pod-2a']);
});
