import { SourceStatus_State } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EtcdServer } from '../kernel/etcd/etcd-server.ts';
import { Cluster } from '../support/lab/cluster.ts';
import { Daemon } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';

/** The story of a cluster in etcd, as a person tells it: commands of `octoplane`, and connections through the kernel. */
let lab: Lab;
let etcd: EtcdServer;
let cluster: Cluster;

beforeAll(async () => {
  lab = await Lab.create({ families: ['IPv4'], nodes: 2, podsPerNode: 1 });
  const ip = lab.place('brain').addresses.IPv4;
  etcd = await EtcdServer.start({ ip, within: (start) => lab.within('brain', start) });
  cluster = await Cluster.start(lab, { driver: 'nftables', sources: [`etcd:${etcd.url}`] });
  await lab.serve('pod-2a', 'IPv4', 8080);
});
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await etcd?.[Symbol.asyncDispose]();
  await lab?.[Symbol.asyncDispose]();
});

const service = `
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { ports: [{ port: 80 }] }
`;
const octoplane = (args: string, input?: string) => {
  const { status, stdout, stderr } = cluster.octoplane(args.split(' '), input);
  expect(status, stderr).toBe(0);
  return stdout;
};
const answers = async (ip: string) => {
  const outcome = await lab.dial('pod-1a', ip, 80);
  return outcome.t === 'answered' ? outcome.by : outcome.t;
};

test('apply, register, serve; etcd dies and comes back; the workload dies', async () => {
  expect(octoplane(`apply -f - --etcd ${etcd.url}`, service)).toBe('Service default/web created\n');
  const { clusterIP } = JSON.parse(octoplane(`get service web -o json --etcd ${etcd.url}`)).spec as {
    clusterIP: string;
  };
  octoplane('wait default/web --insecure --insecure-allow-remote');
  expect(await answers(clusterIP)).toBe('refused');

  const address = lab.place('pod-2a').addresses.IPv4;
  const args = `register default/web --address ${address} --port 8080 --on-node node-2 --ttl 2s --etcd ${etcd.url}`;
  await using workload = new Daemon(lab, 'node-2', 'workload', args.split(' '));
  workload.start();
  await cluster.untilStatus(({ endpoints }) => endpoints === 1);
  octoplane('wait default/web --insecure --insecure-allow-remote');
  expect(await answers(clusterIP)).toBe('pod-2a');

  await etcd.kill();
  const isStale = ({ sources }: { sources: readonly { state: SourceStatus_State }[] }) =>
    sources[0]?.state === SourceStatus_State.STALE;
  expect((await cluster.untilStatus(isStale)).endpoints).toBe(1);
  expect(octoplane('status --insecure --insecure-allow-remote')).toMatch(/etcd +etcd:http:\S+ +stale/);
  expect(await answers(clusterIP)).toBe('pod-2a');
  // A daemon that restarts meanwhile adopts what is in its kernel, and is told nothing new.
  await cluster.node('node-1').stop('SIGKILL');
  expect(await answers(clusterIP)).toBe('pod-2a');
  cluster.node('node-1').start();

  await etcd.start();
  await cluster.untilStatus((status) => !isStale(status));
  expect(await answers(clusterIP)).toBe('pod-2a');

  await workload.stop('SIGKILL');
  await cluster.untilStatus(({ endpoints }) => endpoints === 0);
  octoplane('wait default/web --insecure --insecure-allow-remote');
  expect(await answers(clusterIP)).toBe('refused');
  expect(octoplane('history --insecure --insecure-allow-remote')).toContain(
    'EndpointSlice default/web-10-244-2-10-8080',
  );
});
