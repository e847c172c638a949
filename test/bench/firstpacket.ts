import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { buildPrograms } from '@octoplane/node/bpf/build.ts';
import { Lab } from '../support/lab/lab.ts';
import { type Column, columnNamed } from '../support/scenarios/columns.ts';
import { putNeighbour } from '../support/scenarios/neighbour.ts';
import type { Benchmark, Report } from './benchmark.ts';
import { measureInGuest, placesOf } from './columns.ts';
import { type Contestant, Peer, type Processes, programNode } from './datapath-contestants.ts';

/** Connections of every contestant at each scale. */
const connections = 2000;
const scales = [1000, 10_000, 30_000] as const;
/** What a first packet passes does not depend on it; more would only take longer to load. */
const endpointsEach = 2;
const vip = '10.96.0.10';
const ports = { service: 4080, backend: 8080 } as const;
/** Noise aside, no driver but iptables grows with the number of services, and iptables takes half as much again as nftables. */
const budgets = { growth: 1.1, iptables: 1.5 } as const;

/**
 * How long connect(2) takes when it is a Service's first packet that is sent: between two pods of a node, directly and through a
 * service, with a node for each driver. All take turns, connection by connection, so what a machine does beside it favours nobody.
 *
 * Arguments: `--driver NAME`, repeatable, default all (ipvs in a guest kernel where this one has none, which compares with a direct
 * connection in there); numbers of services, default 1000 10000 30000.
 */
export const firstpacket: Benchmark = {
  name: 'firstpacket',
  summary:
    'a new connection through a service on every driver and direct ones, p50 and p99, at 1,000 to 30,000 services',
  async run(report, signal, args) {
    buildPrograms();
    const sizes = args.filter((arg) => /^\d+$/.test(arg)).map(Number);
    const { here, inGuest } = await placesOf(args);
    if (here.length > 0) await measureHere(here, sizes.length > 0 ? sizes : scales, report, signal);
    for (const { name } of inGuest)
      await measureInGuest('firstpacket', ['--driver', name, ...sizes.map(String)], report, signal);
  },
};

async function measureHere(
  columns: readonly Column[],
  sizes: readonly number[],
  report: Report,
  signal: AbortSignal,
): Promise<void> {
  await using lab = await Lab.create({ nodes: columns.length, podsPerNode: 2, families: ['IPv4'] });
  const processes: Processes = { lab, signal };
  for (const [i, column] of columns.entries()) putNeighbour(lab, `node-${i + 1}`, column);
  await using started = new AsyncDisposableStack();
  for (const i of columns.keys()) {
    const args = ['serve', 'connections', backendOf(lab, i), String(ports.backend)];
    started.use(await Peer.start(processes, podOf(i, 'b'), args));
  }
  let first: ReadonlyMap<string, number> | null = null;
  for (const services of sizes) {
    const ratios = await measureScale({ ...processes, columns, report }, services);
    for (const [name, before] of first ?? []) {
      const value = (ratios.get(name) ?? Number.NaN) / before;
      const metric = `to direct: growth from ${sizes[0]?.toLocaleString('en-US')} services`;
      const budget = columnNamed(name).driver === 'iptables' ? budgets.iptables : budgets.growth;
      report({ case: caseOf(name, services), metric, value, unit: 'ratio', budget });
    }
    first ??= ratios;
  }
}

/** Resolves to the ratio of medians to the direct connection's, by column. */
async function measureScale(
  scale: Processes & { readonly columns: readonly Column[]; readonly report: Report },
  services: number,
): Promise<ReadonlyMap<string, number>> {
  const { lab, columns, report } = scale;
  await using programmed = new AsyncDisposableStack();
  for (const [i, { driver }] of columns.entries()) {
    const web = { name: 'web', ip: vip, protocol: 'TCP' as const, port: ports.service };
    const served = [{ ...web, backend: backendOf(lab, i), target: ports.backend }];
    const node = await programNode(scale, `node-${i + 1}`, { driver, services, endpointsEach, served });
    programmed.defer(async () => {
      node.child.stdin?.end();
      if (node.child.exitCode === null) await once(node.child, 'exit');
      rmSync(node.bpfFsPath, { recursive: true, force: true });
    });
  }
  const contestants: readonly Contestant[] = [
    { name: 'direct', place: podOf(0, 'a'), ip: backendOf(lab, 0), port: ports.backend },
    ...columns.map(({ name }, i) => ({ name, place: podOf(i, 'a'), ip: vip, port: ports.service })),
  ];
  const times = await takeTurns(scale, contestants);
  const p50 = times.map((each) => quantile(each, 0.5));
  const direct = p50[0] ?? Number.NaN;
  for (const [i, { name }] of contestants.entries()) {
    const at = caseOf(name, services);
    report({ case: at, metric: 'connect, p50', value: (p50[i] ?? Number.NaN) / 1000, unit: 'us' });
    report({ case: at, metric: 'connect, p99', value: quantile(times[i] ?? [], 0.99) / 1000, unit: 'us' });
    if (i > 0) report({ case: at, metric: 'p50, to direct', value: (p50[i] ?? Number.NaN) / direct, unit: 'ratio' });
  }
  const nftables = p50[contestants.findIndex(({ name }) => name === 'nftables')];
  for (const [i, { name }] of contestants.entries()) {
    if (nftables === undefined || !name.startsWith('iptables')) continue;
    const value = (p50[i] ?? Number.NaN) / nftables;
    report({
      case: caseOf(name, services),
      metric: 'p50, to nftables',
      value,
      unit: 'ratio',
      budget: budgets.iptables,
    });
  }
  return new Map(columns.map(({ name }, i) => [name, (p50[i + 1] ?? Number.NaN) / direct]));
}

/** Nanoseconds of every connection, by contestant. */
async function takeTurns(processes: Processes, contestants: readonly Contestant[]): Promise<readonly number[][]> {
  await using clients = new AsyncDisposableStack();
  const peers: Peer[] = [];
  for (const { place, ip, port } of contestants)
    peers.push(clients.use(await Peer.start(processes, place, ['client', 'connect', ip, String(port)], 'at once')));
  for (const peer of peers) await peer.measure(100);
  const times = contestants.map((): number[] => []);
  for (let round = 0; round < connections; round++)
    for (let i = 0; i < peers.length; i++) {
      const turn = (round + i) % peers.length;
      times[turn]?.push((await peers[turn]?.measure(1)) ?? Number.NaN);
    }
  return times;
}

const caseOf = (name: string, services: number): string => `${name}, ${services.toLocaleString('en-US')} services`;
const podOf = (i: number, letter: 'a' | 'b'): string => `pod-${i + 1}${letter}`;
const backendOf = (lab: Lab, i: number): string => lab.place(podOf(i, 'b')).addresses.IPv4;

const quantile = (values: readonly number[], q: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * q)] ?? Number.NaN;
