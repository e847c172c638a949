import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buildPrograms } from '@octoplane/node/bpf/build.ts';
import type { DriverName } from '@octoplane/node/drivers/driver.ts';
import { Lab } from '../support/lab/lab.ts';
import type { Benchmark, Report } from './benchmark.ts';
import type { Setting } from './datapath-driver.ts';

const rounds = 41;
/** Budgets of the issue: a connection through a service costs 3 % more than a direct one, and requests on it nothing. */
const kinds = [
  { kind: 'connect', serve: 'connections', port: 8080, protocol: 'TCP', count: 100, budget: 1.03, what: 'TCP connect' },
  {
    kind: 'exchange',
    serve: 'connections',
    port: 8080,
    protocol: 'TCP',
    count: 100,
    budget: 1.03,
    what: 'TCP connect, request, close',
  },
  {
    kind: 'requests',
    serve: 'connections',
    port: 8081,
    protocol: 'TCP',
    count: 300,
    budget: 1.03,
    what: 'TCP request on a kept connection',
  },
  {
    kind: 'datagrams',
    serve: 'datagrams',
    port: 8082,
    protocol: 'UDP',
    count: 300,
    budget: 1.03,
    what: 'UDP request',
  },
] as const;
const scales = [
  { services: 10, endpointsEach: 10 },
  { services: 10_000, endpointsEach: 10 },
  { services: 50_000, endpointsEach: 5 },
] as const;
const vip = '10.96.0.10';

/**
 * Two pods on one node, direct and through a service, in turns: what the service costs, and whether that grows with the
 * number of services. `--drivers ebpf,nftables` (the default).
 */
export const datapath: Benchmark = {
  name: 'datapath',
  summary:
    'connections through a service against direct ones, at 10, 10,000 and 50,000 services (--drivers ebpf,nftables)',
  async run(report, signal, args) {
    buildPrograms();
    const at = args.indexOf('--drivers');
    const drivers = (at < 0 ? 'ebpf,nftables' : (args[at + 1] ?? '')).split(',') as DriverName[];
    await using lab = await Lab.create({ nodes: 1, podsPerNode: 2, families: ['IPv4'] });
    const servers: ChildProcess[] = [];
    try {
      for (const { serve, port } of kinds.filter(({ kind }) => kind !== 'exchange'))
        servers.push(await ready(peer(lab, 'pod-1b', ['serve', serve, backendOf(lab), String(port)], signal)));
      for (const driver of drivers)
        for (const scale of scales) await measureDriver({ lab, driver, report, signal, ...scale });
    } finally {
      for (const server of servers) server.kill();
    }
  },
};

interface Measurement {
  readonly lab: Lab;
  readonly driver: DriverName;
  readonly services: number;
  readonly endpointsEach: number;
  readonly report: Report;
  readonly signal: AbortSignal;
}

async function measureDriver({ lab, driver, services, endpointsEach, report, signal }: Measurement): Promise<void> {
  const name = `${driver}, ${services} services`;
  const options = {
    cgroupPath: lab.cgroupOf('node-1'),
    bpfFsPath: lab.bpfFsOf('node-1'),
    stateDir: join(lab.dir, driver),
  };
  mkdirSync(options.stateDir, { recursive: true });
  const served = [...new Map(kinds.map((each) => [each.port, each])).values()].map(({ port, protocol }) => ({
    name: `web-${port}`,
    ip: vip,
    protocol,
    port: port - 8000,
    backend: backendOf(lab),
    target: port,
  }));
  const setting: Setting = { driver, services, endpointsEach, served, options };
  const script = join(import.meta.dirname, 'datapath-driver.ts');
  const child = lab.within('node-1', () =>
    spawn(process.execPath, [script, JSON.stringify(setting)], { stdio: ['pipe', 'pipe', 'inherit'], signal }),
  );
  try {
    const { appliedMs, readBackMs } = JSON.parse(await firstLine(child)) as { appliedMs: number; readBackMs: number };
    report({
      case: name,
      metric: `cold load and read back of x ${endpointsEach}`,
      value: appliedMs + readBackMs,
      unit: 'ms',
      ...loadBudget(driver, services),
    });
    for (const { kind, port, count, budget, what } of kinds) {
      const to = [backendOf(lab), String(port), vip, String(port - 8000)];
      const client = peer(lab, 'pod-1a', ['measure', kind, String(count), String(rounds), ...to], signal);
      const { direct, service, ratio } = JSON.parse(await firstLine(client)) as Record<
        'direct' | 'service' | 'ratio',
        number
      >;
      report({ case: name, metric: `${what}, direct`, value: direct / 1000, unit: 'us' });
      report({ case: name, metric: `${what}, through the service`, value: service / 1000, unit: 'us' });
      report({
        case: name,
        metric: `${what}, service to direct`,
        value: ratio,
        unit: 'ratio',
        ...(driver === 'ebpf' ? { budget } : {}),
      });
    }
  } finally {
    child.stdin?.end();
    if (child.exitCode === null) await once(child, 'exit');
    rmSync(options.bpfFsPath, { recursive: true, force: true });
  }
}

const loadBudget = (driver: DriverName, services: number): { budget?: number } => {
  if (driver !== 'ebpf') return {};
  return services === 10_000 ? { budget: 500 } : services === 50_000 ? { budget: 2000 } : {};
};

const backendOf = (lab: Lab): string => lab.place('pod-1b').addresses.IPv4;

/** A process in a pod and in the cgroup of its node. */
function peer(lab: Lab, place: string, args: readonly string[], signal: AbortSignal): ChildProcess {
  const script = join(import.meta.dirname, 'datapath-peers.ts');
  const shell = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"';
  return lab.within(place, () =>
    spawn('sh', ['-c', shell, 'sh', lab.cgroupOf('node-1'), process.execPath, script, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
      signal,
    }),
  );
}

async function ready(child: ChildProcess): Promise<ChildProcess> {
  await firstLine(child);
  return child;
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (!child.stdout) throw new Error('the child has no stdout');
  for await (const line of createInterface(child.stdout)) return line;
  throw new Error(`${child.spawnargs.slice(0, 8).join(' ')} ended without a word`);
}
