import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { DriverName } from '@octoplane/node/drivers/driver.ts';
import type { ApplyFigures, ApplyTask, Contrast } from './apply-child.ts';
import type { Benchmark, Report } from './benchmark.ts';

/** A driver, and on iptables its flavour: `iptables` is what the machine has by default, nft on a recent one. */
type Subject = DriverName | 'iptables-legacy';

/** docs: the budgets of design.md, milliseconds. */
const budgets: Readonly<Partial<Record<Subject, { readonly change: number; readonly coldLoad: number }>>> = {
  ebpf: { change: 0.5, coldLoad: 500 },
  nftables: { change: 1, coldLoad: 1500 },
  ipvs: { change: 5, coldLoad: 3000 },
  iptables: { change: 40, coldLoad: 6000 },
  'iptables-legacy': { change: 400, coldLoad: 1000 },
};
const mostGrowth = 1.5;
const endpoints = 10;

/**
 * What a driver takes to load a cluster, and to change one endpoint of it, read back each time. Each measurement has a process and a
 * network namespace of its own.
 *
 * Arguments: `--driver NAME` (or `iptables-legacy`), repeatable, default nftables; sizes as numbers of services, default 1000 10000;
 * `--no-contrast` leaves out the layout with chains for each service.
 */
export const apply: Benchmark = {
  name: 'apply',
  summary: 'a driver loads 1,000 and 10,000 services x 10 endpoints, and changes one endpoint of them',

  async run(report, signal, args) {
    const sizes = args.filter((arg) => /^\d+$/.test(arg)).map(Number);
    const named = args.flatMap((arg, i) => (args[i - 1] === '--driver' ? [arg as Subject] : []));
    for (const driver of named.length > 0 ? named : (['nftables'] as const)) {
      await measureDriver(driver, sizes.length > 0 ? sizes : [1000, 10_000], report, signal);
    }
    if (args.includes('--no-contrast')) return;
    for (const services of sizes.length > 0 ? sizes : [1000, 10_000]) {
      const contrast = await inChild<Contrast>({ t: 'contrast', services, endpoints }, signal);
      const name = `chains for each service (nft), ${label(services)}`;
      report({
        case: name,
        metric: contrast.loaded ? 'cold load' : 'cold load, stopped',
        value: contrast.loadMs,
        unit: 'ms',
      });
      if (contrast.changeMs === null) continue;
      report({ case: name, metric: 'one endpoint changed, median', value: contrast.changeMs, unit: 'ms' });
    }
  },
};

async function measureDriver(driver: Subject, sizes: readonly number[], report: Report, signal: AbortSignal) {
  const budget = budgets[driver];
  const medians: number[] = [];
  for (const services of sizes) {
    const legacy = driver === 'iptables-legacy';
    const task = { t: 'driver', driver: legacy ? 'iptables' : driver, legacy, services, endpoints } as const;
    const figures = await inChild<ApplyFigures>(task, signal);
    const name = `${driver}, ${label(services)}`;
    const cold = budget === undefined || services !== 10_000 ? {} : { budget: budget.coldLoad };
    const change = budget === undefined ? {} : { budget: budget.change };
    report({ case: name, metric: 'cold load, read back', value: figures.coldLoadMs, unit: 'ms', ...cold });
    report({ case: name, metric: 'of it apply', value: figures.applyMs, unit: 'ms' });
    report({ case: name, metric: 'of it read back', value: figures.readBackMs, unit: 'ms' });
    report({ case: name, metric: 'of it frame and hooks', value: figures.pruneMs, unit: 'ms' });
    report({ case: name, metric: 'CPU of the cold load', value: figures.coldLoadCpuMs, unit: 'ms' });
    report({ case: name, metric: 'heap that stays', value: figures.heapMb, unit: 'MB' });
    report({
      case: name,
      metric: 'one endpoint changed, read back, median',
      value: figures.medianMs,
      unit: 'ms',
      ...change,
    });
    report({ case: name, metric: 'one endpoint changed, read back, p99', value: figures.p99Ms, unit: 'ms' });
    report({ case: name, metric: 'dump', value: figures.dumpMs, unit: 'ms' });
    medians.push(figures.medianMs);
  }
  const [least, most] = [medians[0], medians.at(-1)];
  if (least === undefined || most === undefined || medians.length < 2) return;
  const metric = 'one endpoint changed, against the smallest';
  report({ case: `${driver}, growth`, metric, value: most / least, unit: 'ratio', budget: mostGrowth });
}

const label = (services: number): string => `${services.toLocaleString('en-US')} x ${endpoints}`;

async function inChild<T>(task: ApplyTask, signal: AbortSignal): Promise<T> {
  const child = fork(new URL('./apply-child.ts', import.meta.url), [JSON.stringify(task)], {
    signal,
    execArgv: ['--expose-gc'],
  });
  const answered = once(child, 'message').then(([figures]) => figures as T);
  const ended = once(child, 'exit').then(([code]): never => {
    throw new Error(`the measuring process ended with ${code} before it had figures`);
  });
  const figures = await Promise.race([answered, ended]);
  ended.catch(() => {
    // It ends when it has answered.
  });
  return figures;
}
