import { afterAll, beforeAll, expect, test } from 'vitest';
import { Deployment } from '../support/kube-api/deployment.ts';
import { KubeApiServer } from '../support/kube-api/kube-api-server.ts';
import { KubeconfigFile } from '../support/kube-api/kubeconfig-file.ts';
import { kubeSystem, node } from '../support/kube-api/manifests.ts';
import { netnsPath } from '../support/lab/build.ts';
import { Cluster, controllerHttpPort } from '../support/lab/cluster.ts';
import { httpGet } from '../support/lab/http.ts';
import { Lab } from '../support/lab/lab.ts';
import { bindSocket, ipProtocols, openSocket, setSocketOption, socketTypes } from '../support/lab/libc.ts';
import { serviceManifest } from '../support/lab/manifests.ts';

/**
 * A rollout as Kubernetes does it: a Pod is deleted when the one that takes its place is Ready. With the readiness gate and a preStop hook no
 * request fails, and while a node stands still the rollout does, too.
 */
const vip = '10.96.0.10';
let lab: Lab;
let api: KubeApiServer;
let config: KubeconfigFile;
let cluster: Cluster;
let pods: Deployment;

beforeAll(async () => {
  lab = await Lab.create({ families: ['IPv4'], nodes: 2 });
  const { netns, addresses } = lab.place('brain');
  const bind = (): number => {
    const fd = openSocket(netnsPath(netns), 4, socketTypes.stream, ipProtocols.any);
    setSocketOption(fd, 'reuseAddress', 1);
    bindSocket(fd, addresses.IPv4, 6443);
    return fd;
  };
  api = await KubeApiServer.start({ place: { ip: addresses.IPv4, port: 6443, bind } });
  config = new KubeconfigFile({ east: { server: api.url } });
  api.put('namespaces', kubeSystem('uid-east'));
  for (const { name } of lab.nodes) api.put('nodes', node(name));
  api.put('services', { ...serviceManifest('web', { clusterIP: vip, ports: [{ port: 80, protocol: 'TCP' }] }) });
  pods = new Deployment(api, 'web');
  cluster = await Cluster.start(lab, {
    driver: 'nftables',
    sources: ['east=kubernetes:'],
    controllerFlags: ['--kubeconfig', config.path, '--readiness-gates'],
  });
});
afterAll(async () => {
  pods?.close();
  await cluster?.[Symbol.asyncDispose]();
  await api?.[Symbol.asyncDispose]();
  config?.[Symbol.dispose]();
  await lab?.[Symbol.asyncDispose]();
});

async function startPod(name: string): Promise<void> {
  pods.create({ name, ip: lab.place(name).addresses.IPv4, node: lab.hostOf(name).name });
  await lab.serve(name, 'IPv4', 8080);
  pods.containersReady(name);
}

/** As kubelet does: the hook first, then the program is asked to end. */
async function endPod(name: string): Promise<void> {
  pods.delete(name);
  const brain = lab.place('brain').addresses.IPv4;
  const hook = await httpGet(lab.place(name), brain, controllerHttpPort, '/gone?port=8080&timeout=30s');
  expect(hook).toMatchObject({ status: 200 });
  await lab.retire(name, 'IPv4', 8080);
  pods.ended(name);
}

test('a rollout with the readiness gate and a preStop hook fails no request, and stops while a node does', async () => {
  for (const name of ['pod-1a', 'pod-2a']) await startPod(name);
  for (const name of ['pod-1a', 'pod-2a']) await pods.untilReady(name);
  const clients = { fresh: 2, kept: 0 };
  const loads = [await lab.load('pod-1b', vip, 80, clients), await lab.load('pod-2b', vip, 80, clients)];
  const lived = () => Promise.all(loads.map((load) => load.more(60)));
  await lived();

  await startPod('pod-1c');
  await pods.untilReady('pod-1c');
  await endPod('pod-1a');
  await lived();

  cluster.node('node-1').signal('SIGSTOP');
  await startPod('pod-2c');
  await untilClosed('pod-2c');
  expect(pods.conditionOf('pod-2c')).toMatchObject({
    status: 'False',
    reason: 'NotProgrammed',
    message: expect.stringMatching(/^on 1 of 2 nodes; late: node-1 \(slow: owes version \d+ for \d+ s\)$/),
  });
  await lived();
  cluster.node('node-1').signal('SIGCONT');
  await pods.untilReady('pod-2c');
  await endPod('pod-2a');
  await lived();

  const reports = await Promise.all(loads.map((load) => load.stop()));
  expect(reports.map(({ failures, firstFailures }) => ({ failures, firstFailures }))).toEqual(
    reports.map(() => ({ failures: 0, firstFailures: [] })),
  );
  expect(reports.every(({ answers }) => (answers['pod-1c'] ?? 0) > 0 && (answers['pod-2c'] ?? 0) > 0)).toBe(true);
  expect(api.complaints).toEqual([]);
});

/** The condition is written, and not true. */
function untilClosed(name: string): Promise<void> {
  const { listeners } = api.store.collection(api.resource('pods'));
  return new Promise((resolve) => {
    const look = () => {
      if (pods.conditionOf(name)['status'] !== 'False') return;
      listeners.delete(look);
      resolve();
    };
    listeners.add(look);
    look();
  });
}
