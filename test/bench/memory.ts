import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Cluster } from '../support/lab/cluster.ts';
import type { Daemon } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { syntheticManifests } from '../support/synthetic.ts';
import type { Benchmark, Report } from './benchmark.ts';

const root = join(import.meta.dirname, '../..');
const services = 10_000;
const endpoints = 10;

/** After a bulk a daemon gives memory back when it has been quiet for a while. */
const quietMs = 10_000;

/** What ships, with a real kernel, fed from a directory of manifests: what `ps` would show an operator. */
export const memory: Benchmark = {
  name: 'memory',
  summary: 'RSS of controller and node daemon at 10,000 Services x 10 endpoints; --driver NAME',
  async run(report, _signal, args) {
    const at = args.indexOf('--driver');
    const driver = (at >= 0 && args[at + 1]) || 'nftables';
    execFileSync(process.execPath, [join(root, 'deploy/build.ts')]);
    await using lab = await Lab.create({ nodes: 1, podsPerNode: 1, program: join(root, 'dist/main.js') });
    await using cluster = await Cluster.start(lab, { driver });
    await cluster.settled();
    figures(report, cluster, driver, 'empty');

    for (const [file, documents] of filesOf(syntheticManifests({ services, endpoints, nodes: 1, zones: 1 })))
      cluster.source.write(file, documents);
    await cluster.settled({ timeoutMs: 300_000 });
    await delay(quietMs);
    figures(report, cluster, driver, `${services} x ${endpoints}`);

    await cluster.node('node-1').stop();
    cluster.node('node-1').start();
    await cluster.settled({ timeoutMs: 300_000 });
    await delay(quietMs);
    figures(report, cluster, driver, `${services} x ${endpoints}, daemon restarted`);
  },
};

/** Budget from design.md; of the daemon only. */
const daemonBudgetMb = 120;

function figures(report: Report, cluster: Cluster, driver: string, what: string): void {
  const daemon = cluster.node('node-1');
  for (const [metric, key] of [
    ['RSS', 'VmRSS'],
    ['peak RSS', 'VmHWM'],
  ] as const) {
    const unit = 'MB';
    const budget = key === 'VmRSS' && what !== 'empty' ? { budget: daemonBudgetMb } : {};
    report({ case: `node daemon, ${driver}, ${what}`, metric, value: memoryOf(daemon, key), unit, ...budget });
    report({ case: `controller, ${what}`, metric, value: memoryOf(cluster.controller, key), unit });
  }
}

/** From proc(5), in MB of 10^6 bytes. */
function memoryOf(daemon: Daemon, key: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${daemon.pid}/status`, 'utf8');
  const kib = new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1];
  return (Number(kib) * 1024) / 1e6;
}

/** A hundred files, as somebody would keep them. */
function filesOf(manifests: Iterable<object>): Map<string, string> {
  const lists = new Map<string, object[]>();
  let i = 0;
  for (const manifest of manifests) {
    const file = `synthetic-${String(i++ % 100).padStart(2, '0')}.json`;
    lists.set(file, [...(lists.get(file) ?? []), manifest]);
  }
  return new Map(
    Array.from(lists, ([file, items]) => [file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items })]),
  );
}
