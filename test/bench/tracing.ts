import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { credentials } from '@grpc/grpc-js';
import { AdminServiceClient } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Collector } from '../support/collector/collector.ts';
import { Child } from '../support/stub-nodes/child.ts';
import { controllerOptions } from '../support/stub-nodes/controller-options.ts';
import type { ControllerReport, ControllerRequest } from '../support/stub-nodes/controller-process.ts';
import { historyOf, programmedEverywhere } from '../support/stub-nodes/fleet-admin.ts';
import { changeOneEndpoint, fleetZones, writeCluster } from '../support/stub-nodes/fleet-manifests.ts';
import type { FleetReport, FleetRequest } from '../support/stub-nodes/fleet-process.ts';
import type { Benchmark, Report } from './benchmark.ts';

type ControllerChild = Child<ControllerRequest, ControllerReport>;

const changesPerSecond = 10;
const sampled = { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.1' };

/** Rounds take turns, so that what the machine does besides falls on all of them. */
const modes = ['off', 'sampled', 'always on', 'always on, collector silent'] as const;
type Mode = (typeof modes)[number];

/**
 * What traces cost the controller, with stub nodes over plaintext in another process and a collector in this one.
 * `-- tracing [NODES] [--seconds N] [--rounds N]`.
 */
export const tracing: Benchmark = {
  name: 'tracing',
  summary: 'controller CPU and memory at 5,000 stub nodes and 10 changes a second: traces off, 1 in 10, always on',
  async run(report, signal, args) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { seconds: { type: 'string', default: '10' }, rounds: { type: 'string', default: '1' } },
    });
    const nodes = Number(positionals[0] ?? 5000);
    const seconds = Number(values.seconds);
    const measured = new Map<Mode, Cost[]>();
    for (let round = 0; round < Number(values.rounds) && !signal.aborted; round++)
      for (const mode of modes)
        measured.set(mode, [...(measured.get(mode) ?? []), await costOf(mode, { nodes, seconds, signal })]);
    tell(report, nodes, measured);
  },
};

interface Cost {
  readonly cpuMs: number;
  readonly rssMb: number;
  /** Changes times nodes. */
  readonly acks: number;
  readonly versions: number;
  readonly p100Ms: number;
  readonly spans: number;
}

async function costOf(
  mode: Mode,
  { nodes, seconds, signal }: { nodes: number; seconds: number; signal: AbortSignal },
): Promise<Cost> {
  const directory = mkdtempSync(join(tmpdir(), 'octoplane-tracing-'));
  const manifests = join(directory, 'manifests');
  writeCluster(manifests);
  await using collector = await Collector.listen();
  if (mode.endsWith('silent')) collector.manner = 'silent';
  const { OTEL_BSP_SCHEDULE_DELAY: _, ...endpoint } = collector.environment('grpc');
  const env = mode === 'off' ? {} : { ...endpoint, ...(mode === 'sampled' ? sampled : {}) };
  const controller: ControllerChild = new Child('./controller-process.ts', { execArgv: ['--expose-gc'], env });
  const stubs = new Child<FleetRequest, FleetReport>('./fleet-process.ts');
  try {
    const options = controllerOptions({
      sources: [{ name: 'file', kind: 'file', target: manifests }],
      release: 'bench',
    });
    const { grpc } = await controller.ask({ t: 'start', logLevel: 'error', options }, 'listening');
    const address = `127.0.0.1:${grpc}`;
    stubs.send({ t: 'start', address, nodes, zones: fleetZones, tls: null });
    await stubs.next('planned', signal);
    const admin = new AdminServiceClient(address, credentials.createInsecure());
    await programmedEverywhere(admin, nodes, signal);
    const [before] = await historyOf(admin, 1);
    const start = await controller.ask({ t: 'usage' }, 'usage');
    for (let i = 0; i < seconds * changesPerSecond && !signal.aborted; i++) {
      changeOneEndpoint(manifests, i);
      await new Promise((resolve) => setTimeout(resolve, 1000 / changesPerSecond));
    }
    await programmedEverywhere(admin, nodes, signal);
    const end = await controller.ask({ t: 'usage' }, 'usage');
    const changes = (await historyOf(admin, 1000)).filter(
      ({ version }) => (version?.sequence ?? 0) > (before?.version?.sequence ?? 0),
    );
    const p100sMs = changes.map(({ convergence }) => (convergence?.p100Us ?? 0) / 1000).sort((a, b) => a - b);
    admin.close();
    return {
      cpuMs: end.cpuMs - start.cpuMs,
      rssMb: end.rssBytes / 1024 / 1024,
      acks: changes.reduce((sum, { convergence }) => sum + (convergence?.programmed ?? 0), 0),
      versions: changes.length,
      p100Ms: p100sMs[p100sMs.length >> 1] ?? 0,
      spans: collector.spans.length,
    };
  } finally {
    await Promise.all([controller.kill(), stubs.kill()]);
    rmSync(directory, { recursive: true });
  }
}

function tell(report: Report, nodes: number, measured: ReadonlyMap<Mode, readonly Cost[]>): void {
  const off = measured.get('off') ?? [];
  for (const [mode, costs] of measured) {
    const name = `${nodes.toLocaleString('en-US')} nodes, ${changesPerSecond} changes a second, traces ${mode}`;
    const figure = (metric: string, value: number, unit: string, budget?: number) =>
      report({ case: name, metric, value, unit, ...(budget === undefined ? {} : { budget }) });
    figure('controller CPU per node and version', perAck(costs), 'µs');
    if (mode !== 'off') {
      figure(
        'more than with traces off',
        (perAck(costs) / perAck(off) - 1) * 100,
        '%',
        mode === 'sampled' ? 5 : undefined,
      );
      figure('of traces, per ack', perAck(costs) - perAck(off), 'µs', 20);
    }
    figure('controller RSS', median(costs.map(({ rssMb }) => rssMb)), 'MB');
    figure('commit to last programmed ack, median', median(costs.map(({ p100Ms }) => p100Ms)), 'ms');
    figure(
      'versions',
      costs.reduce((sum, { versions }) => sum + versions, 0),
      'versions',
    );
    figure(
      'spans collected',
      costs.reduce((sum, { spans }) => sum + spans, 0),
      'spans',
    );
  }
}

/** Versions conflate changes when the machine is slow, so CPU is told per node that got one. */
const perAck = (costs: readonly Cost[]): number => median(costs.map(({ cpuMs, acks }) => (cpuMs * 1000) / acks));

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
