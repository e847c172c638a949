import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { promisify } from 'node:util';
import { buildPrograms } from '@octoplane/node/bpf/build.ts';
import type { DriverName } from '@octoplane/node/drivers/driver.ts';
import { Lab } from '../support/lab/lab.ts';
import type { Benchmark, Report } from './benchmark.ts';
import { type Contestant, Peer, type Processes, programNode } from './datapath-contestants.ts';

/** Turns of every contestant for each figure. */
const rounds = 41;
/** Budgets against a direct connection: connections cost 3 % more at most, and what follows on them nothing, within noise. */
const kinds = [
  { kind: 'connect', port: 8080, count: 200, what: 'TCP connect' },
  { kind: 'exchange', port: 8080, count: 200, what: 'TCP connect, request, close' },
  { kind: 'requests', port: 8081, count: 300, what: 'TCP request on a kept connection' },
  { kind: 'datagrams', port: 8082, count: 300, what: 'UDP request' },
] as const;
const servers = [
  { serve: 'connections', port: 8080 },
  { serve: 'connections', port: 8081 },
  { serve: 'datagrams', port: 8082 },
] as const;
const throughput = { port: 5201, rounds: 7 } as const;
const scales = [
  { services: 10, endpointsEach: 10 },
  { services: 10_000, endpointsEach: 10 },
  { services: 50_000, endpointsEach: 5 },
] as const;
const budgets = { ratio: 1.03, throughput: 0.97, growth: 1.05 } as const;
const loadBudgetMs: Readonly<Record<number, number>> = { 10000: 500, 50000: 2000 };
const vip = '10.96.0.10';

/**
 * Two pods on a node: directly, and through a service, with a node for each driver. All take turns within one run, so what a
 * machine does beside it favours nobody. `--drivers ebpf,nftables` (the default).
 */
export const datapath: Benchmark = {
  name: 'datapath',
  summary: 'connections through a service on every driver and direct ones, in turns, at 10, 10,000 and 50,000 services',
  async run(report, signal, args) {
    buildPrograms();
    const at = args.indexOf('--drivers');
    const drivers = (at < 0 ? 'ebpf,nftables' : (args[at + 1] ?? '')).split(',') as DriverName[];
    await using lab = await Lab.create({ nodes: drivers.length, podsPerNode: 2, families: ['IPv4'] });
    const processes: Processes = { lab, signal };
    await using started = new AsyncDisposableStack();
    for (const i of drivers.keys()) {
      const ip = backendOf(lab, i);
      for (const { serve, port } of servers)
        started.use(await Peer.start(processes, podOf(i, 'b'), ['serve', serve, ip, String(port)]));
      started.use(await Peer.iperfServer(processes, podOf(i, 'b'), ip, throughput.port));
    }
    const flat = new Growth(report);
    for (const scale of scales) await measureScale({ ...processes, drivers, report, flat, ...scale });
  },
};

interface Scale extends Processes {
  readonly drivers: readonly DriverName[];
  readonly services: number;
  readonly endpointsEach: number;
  readonly report: Report;
  readonly flat: Growth;
}

async function measureScale(scale: Scale): Promise<void> {
  const { lab, drivers, services, endpointsEach, report } = scale;
  await using programmed = new AsyncDisposableStack();
  for (const [i, driver] of drivers.entries()) {
    const served = [...servers.map(({ port }) => port), throughput.port].map((port) => ({
      name: `web-${port}`,
      ip: vip,
      protocol: port === 8082 ? ('UDP' as const) : ('TCP' as const),
      port: servicePort(port),
      backend: backendOf(lab, i),
      target: port,
    }));
    const node = await programNode(scale, `node-${i + 1}`, { driver, services, endpointsEach, served });
    programmed.defer(async () => {
      node.child.stdin?.end();
      if (node.child.exitCode === null) await once(node.child, 'exit');
      rmSync(node.bpfFsPath, { recursive: true, force: true });
    });
    const budget = driver === 'ebpf' ? loadBudgetMs[services] : undefined;
    report({
      case: `${driver}, ${services} services`,
      metric: `cold load and read back of x ${endpointsEach}`,
      value: node.loadedMs,
      unit: 'ms',
      ...(budget === undefined ? {} : { budget }),
    });
  }
  for (const kind of kinds) await measureKind(scale, kind);
  await measureThroughput(scale);
}

/** Direct is measured on the first driver's node. */
function contestants({ lab, drivers }: Scale, port: number): readonly Contestant[] {
  return [
    { name: 'direct', place: podOf(0, 'a'), ip: backendOf(lab, 0), port },
    ...drivers.map((name, i) => ({ name, place: podOf(i, 'a'), ip: vip, port: servicePort(port) })),
  ];
}

async function measureKind(scale: Scale, { kind, port, count, what }: (typeof kinds)[number]): Promise<void> {
  const all = contestants(scale, port);
  await using clients = new AsyncDisposableStack();
  const peers: Peer[] = [];
  for (const { place, ip, port: at } of all)
    peers.push(clients.use(await Peer.start(scale, place, ['client', kind, ip, String(at)], 'at once')));
  for (const peer of peers) await peer.measure(count);
  const taken = all.map((): number[] => []);
  for (let round = 0; round < rounds; round++)
    // Taking turns at going first.
    for (let i = 0; i < all.length; i++) {
      const turn = (round + i) % all.length;
      taken[turn]?.push((await peers[turn]?.measure(count)) ?? Number.NaN);
    }
  const us = taken.map((times) => median(times) / 1000);
  const ratioTo = (i: number, j: number) => pairedRatio(taken[i] ?? [], taken[j] ?? []);
  for (const [i, { name }] of all.entries())
    scale.report({ case: `${name}, ${scale.services} services`, metric: what, value: us[i] ?? Number.NaN, unit: 'us' });
  reportRatios(scale, all, { what, ratioTo, budget: budgets.ratio, atLeast: false });
}

async function measureThroughput(scale: Scale): Promise<void> {
  const all = contestants(scale, throughput.port);
  const rates = all.map((): number[] => []);
  for (let round = 0; round < throughput.rounds; round++)
    for (let i = 0; i < all.length; i++) {
      const turn = (round + i) % all.length;
      const contestant = all[turn];
      if (contestant) rates[turn]?.push(await throughputOf(scale, contestant));
    }
  const what = 'throughput, iperf3';
  for (const [i, { name }] of all.entries())
    scale.report({
      case: `${name}, ${scale.services} services`,
      metric: what,
      value: median(rates[i] ?? []) / 1e9,
      unit: 'Gbit/s',
    });
  const ratioTo = (i: number, j: number) => pairedRatio(rates[i] ?? [], rates[j] ?? []);
  reportRatios(scale, all, { what, ratioTo, budget: budgets.throughput, atLeast: true });
}

async function throughputOf({ lab, signal }: Processes, { place, ip, port }: Contestant): Promise<number> {
  const argv = ['-c', ip, '-p', String(port), '-t', '1', '-J'];
  const shell = 'echo $$ > "$1/cgroup.procs"; shift; exec iperf3 "$@"';
  const { stdout } = await lab.within(place, () =>
    promisify(execFile)('sh', ['-c', shell, 'sh', lab.cgroupOf(lab.hostOf(place).name), ...argv], { signal }),
  );
  const { end } = JSON.parse(stdout) as { end: { sum_received: { bits_per_second: number } } };
  return end.sum_received.bits_per_second;
}

interface Ratios {
  readonly what: string;
  /** Of contestant i to contestant j. */
  readonly ratioTo: (i: number, j: number) => number;
  readonly budget: number;
  readonly atLeast: boolean;
}

function reportRatios(scale: Scale, all: readonly Contestant[], { what, ratioTo, budget, atLeast }: Ratios): void {
  const name = `${scale.services} services`;
  for (let i = 1; i < all.length; i++)
    for (let j = 0; j < i; j++) {
      const [of, to] = j === 0 ? [i, 0] : [j, i];
      const first = all[of]?.name;
      const ratio = ratioTo(of, to);
      const limits = j === 0 && first === 'ebpf' ? { budget, atLeast } : {};
      scale.report({
        case: name,
        metric: `${what}: ${first} to ${all[to]?.name}`,
        value: ratio,
        unit: 'ratio',
        ...limits,
      });
      if (j === 0 && first === 'ebpf') scale.flat.note({ what, services: scale.services, ratio, atLeast });
    }
}

/** Is the ratio to direct at 50,000 services what it was at 10? */
class Growth {
  readonly #report: Report;
  readonly #first = new Map<string, number>();

  constructor(report: Report) {
    this.#report = report;
  }

  note({ what, services, ratio, atLeast }: { what: string; services: number; ratio: number; atLeast: boolean }): void {
    const first = this.#first.get(what);
    if (first === undefined) this.#first.set(what, ratio);
    else
      this.#report({
        case: 'ebpf',
        metric: `${what}: growth from ${scales[0].services} to ${services} services`,
        value: atLeast ? first / ratio : ratio / first,
        unit: 'ratio',
        budget: budgets.growth,
      });
  }
}

const podOf = (driver: number, letter: 'a' | 'b'): string => `pod-${driver + 1}${letter}`;
const backendOf = (lab: Lab, driver: number): string => lab.place(podOf(driver, 'b')).addresses.IPv4;
/** Services answer at another port than their endpoints, so that ports are translated as well. */
const servicePort = (target: number): number => target - 4000;

/** Of what was measured in the same round, next to one another. */
const pairedRatio = (of: readonly number[], to: readonly number[]): number =>
  median(of.map((value, round) => value / (to[round] ?? Number.NaN)));

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
