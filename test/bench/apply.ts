import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { Column, ColumnName } from '../support/scenarios/columns.ts';
import type { ApplyFigures, ApplyTask, Contrast } from './apply-child.ts';
import type { Benchmark, Report } from './benchmark.ts';
import { measureInGuest, placesOf } from './columns.ts';

/** docs: the budgets of design.md, milliseconds. */
const budgets: Readonly<Record<ColumnName, { readonly change: number; readonly coldLoad: number }>> = {
  ebpf: { change: 0.5, coldLoad: 500 },
  nftables: { change: 1, coldLoad: 1500 },
  ipvs: { change: 5, coldLoad: 3000 },
  'iptables-nft': { change: 40, coldLoad: 6000 },
  'iptables-legacy': { change: 400, coldLoad: 1000 },
};
const mostGrowth = 1.5;
const endpoints = 10;

/**
 * What a driver takes to load a cluster, and to change one endpoint of it, read back each time. Each measurement has a process and a
 * network namespace of its own.
 *
 * Arguments: `--driver NAME`, repeatable, default all (ipvs in a guest kernel where this one has none); sizes as numbers of services,
 * default 1000 10000; `--no-contrast` leaves out the layout with chains for each service.
 */
export const apply: Benchmark = {
  name: 'apply',
  summary: 'every driver loads 1,000 and 10,000 services x 10 endpoints, and changes one endpoint of them',

  async run(report, signal, args) {
    const sizes = args.filter((arg) => /^\d+$/.test(arg)).map(Number);
    const { here, inGuest } = await placesOf(args);
    for (const column of here) await measureDriver(column, sizes.length > 0 ? sizes : [1000, 10_000], report, signal);
    for (const { name } of inGuest)
      await measureInGuest('apply', ['--driver', name, '--no-contrast', ...sizes.map(String)], report, signal);
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

async function measureDriver(column: Column, sizes: readonly number[], report: Report, signal: AbortSignal) {
  const budget = budgets[column.name];
  const medians: number[] = [];
  for (const services of sizes) {
    const { driver, flavour } = column;
    const task = { t: 'driver', driver, legacy: flavour === 'legacy', services, endpoints } as const;
    const figures = await inChild<ApplyFigures>(task, signal);
    const name = `${column.name}, ${label(services)}`;
    const cold = services === 10_000 ? { budget: budget.coldLoad } : {};
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
      budget: budget.change,
    });
    report({ case: name, metric: 'one endpoint changed, read back, p99', value: figures.p99Ms, unit: 'ms' });
    report({ case: name, metric: 'dump', value: figures.dumpMs, unit: 'ms' });
    medians.push(figures.medianMs);
  }
  const [least, most] = [medians[0], medians.at(-1)];
  if (least === undefined || most === undefined || medians.length < 2) return;
  const metric = 'one endpoint changed, against the smallest';
  report({ case: `${column.name}, growth`, metric, value: most / least, unit: 'ratio', budget: mostGrowth });
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
