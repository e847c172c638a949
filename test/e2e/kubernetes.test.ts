import { SourceStatus_State } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { KubeApiServer } from '../support/kube-api/kube-api-server.ts';
import { KubeconfigFile } from '../support/kube-api/kubeconfig-file.ts';
import { kubeSystem } from '../support/kube-api/manifests.ts';
import { netnsPath } from '../support/lab/build.ts';
import { Cluster } from '../support/lab/cluster.ts';
import { Lab } from '../support/lab/lab.ts';
import { bindSocket, ipProtocols, openSocket, setSocketOption, socketTypes } from '../support/lab/libc.ts';
import { serviceManifest, sliceManifest } from '../support/lab/manifests.ts';

/** Two clusters behind their API servers, and connections through the kernel. */
let lab: Lab;
let api: KubeApiServer;
let other: KubeApiServer;
let config: KubeconfigFile;
let cluster: Cluster;

beforeAll(async () => {
  lab = await Lab.create({ families: ['IPv4'], nodes: 2, podsPerNode: 1 });
  api = await startApiServer(lab, 6443);
  other = await startApiServer(lab, 6444);
  config = new KubeconfigFile({ east: { server: api.url }, west: { server: other.url } });
  api.put('namespaces', kubeSystem('uid-east'));
  other.put('namespaces', kubeSystem('uid-west'));
  other.put('services', {
    ...serviceManifest('api', { clusterIP: '10.96.0.20', ports: [{ port: 80, protocol: 'TCP' }] }),
  });
  api.put('services', {
    ...serviceManifest('web', { clusterIP: '10.96.0.10', ports: [{ port: 80, protocol: 'TCP' }] }),
  });
  cluster = await Cluster.start(lab, {
    driver: 'nftables',
    sources: ['east=kubernetes:east', 'west=kubernetes:west'],
    controllerFlags: ['--kubeconfig', config.path],
  });
  await lab.serve('pod-2a', 'IPv4', 8080);
});
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await api?.[Symbol.asyncDispose]();
  await other?.[Symbol.asyncDispose]();
  config?.[Symbol.dispose]();
  await lab?.[Symbol.asyncDispose]();
});

/** On the controller's host. */
function startApiServer(on: Lab, port: number): Promise<KubeApiServer> {
  const { netns, addresses } = on.place('brain');
  const bind = (): number => {
    const fd = openSocket(netnsPath(netns), 4, socketTypes.stream, ipProtocols.any);
    setSocketOption(fd, 'reuseAddress', 1);
    bindSocket(fd, addresses.IPv4, port);
    return fd;
  };
  return KubeApiServer.start({ place: { ip: addresses.IPv4, port, bind } });
}

const octoplane = (args: string) => {
  const { status, stdout, stderr } = cluster.octoplane([...args.split(' '), '--insecure', '--insecure-allow-remote']);
  expect(status, stderr).toBe(0);
  return stdout;
};
const answers = async () => {
  const outcome = await lab.dial('pod-1a', '10.96.0.10', 80);
  return outcome.t === 'answered' ? outcome.by : outcome.t;
};
type Status = Awaited<ReturnType<Cluster['status']>>;
const stateOf = ({ sources }: Status, name: string) => sources.find((source) => source.name === name)?.state;

test('a Service is served; its API server dies and comes back; another cluster is lost, and the rest goes on', async () => {
  await cluster.untilStatus((status) => stateOf(status, 'east') === SourceStatus_State.SYNCED);
  octoplane('wait default/web');
  expect(await answers()).toBe('refused');
  api.put('endpointslices', sliceManifest(lab, 'web', ['pod-2a'], [{ port: 8080 }]));
  await cluster.untilStatus(({ endpoints }) => endpoints === 1);
  octoplane('wait default/web');
  expect(await answers()).toBe('pod-2a');

  await api.kill();
  const stale = await cluster.untilStatus((status) => stateOf(status, 'east') === SourceStatus_State.STALE);
  expect(stale.endpoints).toBe(1);
  expect(octoplane('status')).toMatch(/east +kubernetes:east +stale/);
  expect(await answers()).toBe('pod-2a');
  await cluster.node('node-1').stop('SIGKILL');
  expect(await answers()).toBe('pod-2a');
  cluster.node('node-1').start();

  api.remove('endpointslices', 'default/web-ipv4');
  await api.listen();
  await cluster.untilStatus(
    (status) => stateOf(status, 'east') === SourceStatus_State.SYNCED && status.endpoints === 0,
  );
  octoplane('wait default/web');
  expect(await answers()).toBe('refused');
  expect(octoplane('history')).toContain('EndpointSlice default/web-ipv4');

  await other.kill();
  const lost = await cluster.untilStatus((status) => stateOf(status, 'west') === SourceStatus_State.STALE);
  expect(lost.sources.find(({ name }) => name === 'west')?.reason).toMatch(/:6444 cannot be reached/);
  expect(lost.services).toBe(2);
  api.put('endpointslices', sliceManifest(lab, 'web', ['pod-2a'], [{ port: 8080 }]));
  await cluster.untilStatus(({ endpoints }) => endpoints === 1);
  octoplane('wait default/web');
  expect(await answers()).toBe('pod-2a');
  expect([...api.complaints, ...other.complaints]).toEqual([]);
});
