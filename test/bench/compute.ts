import type { ClusterObject } from '@octoplane/model/objects.ts';
import { Allocator } from '../../services/controller/allocate/allocator.ts';
import { Compute } from '../../services/controller/compute/compute.ts';
import type { SourceEvent } from '../../services/controller/sources/source.ts';
import { ClusterState } from '../../services/controller/state/cluster-state.ts';
import { projected, type SyntheticOptions, syntheticObjects, syntheticSlices } from '../support/synthetic.ts';
import type { Benchmark, Report } from './benchmark.ts';

const changes = 2000;

/** From events to the batch, without a source and without streams. The cost of a change must not follow the number of Services. */
export const compute: Benchmark = {
  name: 'compute',
  summary: 'the brain alone: load and one endpoint changed at 1,000 and 10,000 services x 25 in 3 zones, 1,000 nodes',
  async run(report, signal) {
    const small = measure(report, 1000);
    signal.throwIfAborted();
    const large = measure(report, 10_000);
    report({
      case: '10,000 against 1,000',
      metric: 'one endpoint changed, median',
      value: large / small,
      unit: 'ratio',
    });
  },
};

function measure(report: Report, services: number): number {
  const options: SyntheticOptions = { services, endpoints: 25, nodes: 1000, zones: 3 };
  const name = `${services.toLocaleString('en-US')} x 25`;
  const brain = new Compute(new ClusterState({ sources: ['bench'], allocator: new Allocator({ serviceCidrs: [] }) }));
  const objects = Array.from(syntheticObjects(options));
  const loadMs = timed(() => brain.apply('bench', [...objects.map(upsert), synced(0)]));
  report({ case: name, metric: 'load', value: loadMs, unit: 'ms' });
  const times: number[] = [];
  for (let i = 0; i < changes; i++) {
    // One endpoint goes, and is back when its Service has its turn again.
    const count = 24 + (Math.floor(i / services) % 2);
    const events = syntheticSlices(i % services, options, count)
      .map(projected)
      .map(upsert);
    times.push(timed(() => brain.apply('bench', [...events, synced(i + 1)])));
  }
  const sorted = times.sort((a, b) => a - b);
  const median = (sorted[changes >> 1] ?? 0) * 1000;
  report({ case: name, metric: 'one endpoint changed, median', value: median, unit: 'us' });
  report({
    case: name,
    metric: 'one endpoint changed, 99th percentile',
    value: (sorted[Math.floor(changes * 0.99)] ?? 0) * 1000,
    unit: 'us',
  });
  report({ case: name, metric: 'full recompute', value: timed(() => brain.recompute()), unit: 'ms' });
  return median;
}

function timed(work: () => unknown): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

const upsert = (object: ClusterObject): SourceEvent => ({ t: 'upserted', object, observedAtUs: 1 });
const synced = (revision: number): SourceEvent => ({ t: 'synced', incarnation: 'bench', revision, observedAtUs: 1 });
