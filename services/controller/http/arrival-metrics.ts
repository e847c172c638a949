import { exponentialBuckets, Histogram, linearBuckets } from 'prom-client';
import { type ChangeKind, kindOf } from '../acks/change-kind.ts';
import type { Percentile } from '../acks/convergence.ts';
import type { ArrivalObserver, ProgrammedAck } from '../acks/node-book.ts';
import type { NodeRecord } from '../acks/node-record.ts';
import { endpointsTriggeredAtUs } from '../acks/trigger-time.ts';
import type { Commit } from '../history/history.ts';
import type { MetricsRegistry } from './metrics-text.ts';

export interface ArrivalMetricsOptions {
  readonly registry: MetricsRegistry;
  /** Start of this line of versions, microseconds since 1970: what is said to be older is not believed. */
  readonly sinceUs: number;
  /** Id of a change's trace, where one is recorded. */
  readonly traceOf: (commit: Commit) => string | null;
}

/** 1 ms to 65 s. */
const convergenceBuckets = exponentialBuckets(0.001, 2, 17);
/** kube-proxy's, so that recorded rules and dashboards keep working. */
const programmingBuckets = [
  ...linearBuckets(0.25, 0.25, 2),
  ...linearBuckets(1, 1, 59),
  ...linearBuckets(60, 5, 12),
  ...linearBuckets(120, 30, 7),
];

/** A label of exemplars alone: prom-client's types know one set of labels. */
type ExemplarLabel = 'trace_id';

/** When changes were in kernels: exactly, every change, of every kind. */
export class ArrivalMetrics implements ArrivalObserver {
  readonly #options: ArrivalMetricsOptions;
  readonly #known = new WeakMap<Commit, { readonly kind: ChangeKind; readonly triggeredAtUs: number | null }>();
  readonly #convergence: Histogram<'kind' | 'percentile' | ExemplarLabel>;
  readonly #programming: Histogram;

  constructor(options: ArrivalMetricsOptions) {
    this.#options = options;
    const registers = [options.registry];
    this.#convergence = new Histogram({
      name: 'octoplane_convergence_seconds',
      help: 'From the commit of a change until 50, 99 and 100 % of the nodes that it concerns had it in their kernels; one observation per change and percentile',
      buckets: convergenceBuckets,
      labelNames: ['kind', 'percentile'],
      enableExemplars: true,
      registers,
    });
    this.#programming = new Histogram({
      name: 'kubeproxy_network_programming_duration_seconds',
      help: 'As kube-proxy has it, on the clock of the controller: from the time at which endpoints changed, as their source tells, to the rules of a node; one observation per node and change, removals left out',
      buckets: programmingBuckets,
      registers,
    });
  }

  concerned(commit: Commit): void {
    const triggeredAtUs = endpointsTriggeredAtUs(commit.batch.causes, this.#options.sinceUs);
    this.#known.set(commit, { kind: kindOf(commit.batch), triggeredAtUs });
  }

  arrived(commit: Commit, _node: NodeRecord, _ack: ProgrammedAck, nowUs: number): void {
    const triggeredAtUs = this.#known.get(commit)?.triggeredAtUs ?? null;
    if (triggeredAtUs !== null) this.#programming.observe((nowUs - triggeredAtUs) / 1_000_000);
  }

  reached(commit: Commit, percentile: Percentile, latencyUs: number): void {
    const known = this.#known.get(commit);
    if (!known) return;
    const traceId = this.#options.traceOf(commit);
    this.#convergence.observe({
      labels: { kind: known.kind, percentile: String(percentile) },
      value: latencyUs / 1_000_000,
      ...(traceId === null ? {} : { exemplarLabels: { trace_id: traceId } }),
    });
  }
}
