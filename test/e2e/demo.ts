/**
 * `npm run demo`: the main job, seen. A controller and its nodes as real processes in network namespaces, a Service whose
 * address exists in no process, connections to it through the kernel, and how long each change took to get there.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { clockTime, duration, sequence } from '@octoplane/cli/format.ts';
import { table } from '@octoplane/cli/table.ts';
import type { ChangeRecord } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import type { Family } from '@octoplane/model/keys.ts';
import { Cluster } from '../support/lab/cluster.ts';
import { Lab } from '../support/lab/lab.ts';
import { historyOf } from '../support/stub-nodes/fleet-admin.ts';
import { type ChangeLatency, measureChange } from './latency.ts';
import { nodePort, podPort, port, vips, type WebPod, webService, webSlice } from './manifests.ts';

const families: readonly Family[] = ['IPv4', 'IPv6'];
const connections = 300;
/** Where `npx octoplane` looks by default. */
const adminPort = 12_090;

const { values: flags } = parseArgs({
  options: {
    driver: { type: 'string', default: 'nftables' },
    nodes: { type: 'string', default: '3' },
    keep: { type: 'boolean', default: false },
  },
});
const nodes = Number(flags.nodes);
if (!Number.isInteger(nodes) || nodes < 2 || nodes > 20) {
  console.error(`demo: --nodes ${flags.nodes}: between 2 and 20, please`);
  process.exit(2);
}

await using lab = await Lab.create({ nodes, podsPerNode: 1 });
await using cluster = await Cluster.start(lab, { driver: flags.driver, ...(flags.keep ? { adminPort } : {}) });
const pods = lab.nodes.map((node, i) => ({ name: `pod-${i + 1}a`, node: node.name, zone: node.zone }));
const changes: ChangeLatency[] = [];
const changeColumns = ['VERSION', 'CAUSE', 'COMMITTED', '50 %', '99 %', '100 %', 'SLOWEST', 'TRACE'];

step(`a controller and ${nodes} node daemons, driver ${flags.driver}, each in a network namespace of its own`);
for (const { name } of pods) for (const family of families) await lab.serve(name, family, podPort);
await cluster.settled();
done(`connected; a backend answers on port ${podPort} of each of ${pods.length} pods`);

step(`Service default/web: ${vips.IPv4} and ${vips.IPv6}, port ${port}, node port ${nodePort}`);
await change('Service and endpoints created', () => {
  cluster.source.put(webService());
  putEndpoints(pods);
});

step(`${connections} connections to each of its addresses, from a pod and from outside`);
await spread('pod-1a', vips.IPv4, port, pods);
await spread('pod-1a', vips.IPv6, port, pods);
await spread('outside', lab.place('node-1').addresses.IPv4, nodePort, pods);
nobodyListens();
await pingVip();

const [last] = pods.slice(-1);
const others = pods.slice(0, -1);
step(`the endpoint on ${last?.node} goes`);
await change(`endpoint ${last?.name} removed`, () => putEndpoints(others));
await spread('pod-1a', vips.IPv4, port, others);

step('and comes back');
await change(`endpoint ${last?.name} added`, () => putEndpoints(pods));
await spread('pod-1a', vips.IPv4, port, pods);

console.log('\nFrom commit in the controller to programmed and read back, on the controller’s clock, milliseconds:\n');
console.log(table(['CHANGE', ...lab.nodes.map((node) => node.name)], changes.map(latencyRow)));
console.log('Every change, from octoplane history:\n');
console.log(
  table(changeColumns, (await historyOf(cluster.admin, 50)).toReversed().filter(concernsNodes).map(changeRow)),
);
if (flags.keep) await keepUp();

function putEndpoints(chosen: typeof pods): void {
  for (const family of families) {
    const webPods: WebPod[] = chosen.map(({ name, node, zone }) => ({
      ip: lab.place(name).addresses[family],
      node,
      zone,
    }));
    cluster.source.put(webSlice(family, webPods));
  }
}

async function change(what: string, act: () => void): Promise<void> {
  const measured = await measureChange(cluster, what, act);
  changes.push(measured);
  done(`version ${measured.version} is in the kernel of all ${nodes} nodes`);
}

/** Every pod must answer, no attempt may fail, and nobody else may answer. */
async function spread(from: string, ip: string, toPort: number, expected: typeof pods): Promise<void> {
  const names = expected.map(({ name }) => name);
  const tally = await lab.dialMany(from, ip, toPort, { until: names, atLeast: connections, atMost: 10 * connections });
  const answered = Object.keys(tally.answers).toSorted();
  if (tally.failures.length > 0 || answered.join() !== names.toSorted().join())
    throw new Error(`from ${from} to ${ip} port ${toPort}: ${JSON.stringify(tally)}`);
  const counts = Object.entries(tally.answers).map(([name, count]) => `${name} ${count}`);
  done(`${from} -> ${ip} port ${toPort}: ${counts.join(', ')}; none failed`);
}

function nobodyListens(): void {
  const sockets = lab.within('node-1', () => execFileSync('ss', ['-Hlntu'], { encoding: 'utf8' }));
  const onVip = sockets.split('\n').filter((line) => Object.values(vips).some((vip) => line.includes(vip)));
  if (onVip.length > 0) throw new Error(`somebody listens on a service address: ${onVip.join()}`);
  done('ss -lntu on node-1: nobody listens on the service addresses');
}

async function pingVip(): Promise<void> {
  const outcome = await lab.ping('pod-1a', vips.IPv4);
  if (outcome.t !== 'replied') throw new Error(`ping ${vips.IPv4}: ${outcome.t}`);
  done(`ping ${vips.IPv4}: answered`);
}

function latencyRow({ what, perNode }: ChangeLatency): string[] {
  return [what, ...lab.nodes.map(({ name }) => ((perNode.get(name) ?? 0) / 1_000).toFixed(1))];
}

function concernsNodes({ convergence }: ChangeRecord): boolean {
  return (convergence?.nodes ?? 0) > 0;
}

function changeRow({ version, committedAtUs, causes, moreCauses, convergence, traceId }: ChangeRecord): string[] {
  const [first, ...others] = causes.map(({ object }) => object);
  const more = others.length + moreCauses;
  return [
    sequence(version),
    `${first ?? ''}${more > 0 ? ` +${more}` : ''}`,
    clockTime(committedAtUs),
    ...[convergence?.p50Us, convergence?.p99Us, convergence?.p100Us].map((us) => duration(us ?? 0)),
    convergence?.slowest ?? '',
    traceId,
  ];
}

async function keepUp(): Promise<void> {
  const netns = lab.place('node-1').netns;
  console.log(`Everything stays up. From another shell in this directory:

  npx octoplane status                                  the fleet at a glance
  npx octoplane services default/web                    addresses, endpoints, where it is programmed
  npx octoplane wait default/web --timeout 5s           0 once it is in every kernel
  ip netns exec ${netns} nft list ruleset
  ip netns exec ${netns} ss -lntp
  ip netns exec ${netns} ping -c 1 ${vips.IPv4}
  kill -STOP ${cluster.node('node-2').pid}                                    freeze node-2; -CONT lets it go on
  ls ${cluster.source.path}       edit these, and see octoplane history

Ctrl-C ends it and removes everything.`);
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
}

function step(text: string): void {
  console.log(`\n${text}`);
}

function done(text: string): void {
  console.log(`  ${text}`);
}
