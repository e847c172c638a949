import { Nack_Reason, Plan_Kind } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { Counter, collectDefaultMetrics, Gauge, Histogram } from 'prom-client';
import { reasonName } from '../acks/lateness.ts';
import type { NodeBook } from '../acks/node-book.ts';
import { type NodeState, stateOf } from '../acks/node-record.ts';
import type { Refusal } from '../door.ts';
import type { History } from '../history/history.ts';
import type { RejectedObject, SourceReport } from '../state/cluster-state.ts';
import type { StreamObserver } from '../stream/session-context.ts';
import { kindName } from '../stream/words.ts';
import type { SpanFate } from '../tracing/outbox.ts';
import { newMetricsRegistry } from './metrics-text.ts';

export interface Measured {
  readonly history: History;
  readonly book: NodeBook;
  readonly streams: () => number;
  readonly reports: () => readonly SourceReport[];
  readonly rejected: () => readonly RejectedObject[];
  readonly services: () => number;
  /** Of traces, on their way to the collector. */
  readonly waitingSpans: () => number;
  readonly closedGates: () => number;
}

/** All but 0, "unspecified". */
const planKinds = [Plan_Kind.UP_TO_DATE, Plan_Kind.DELTA, Plan_Kind.BUCKET_REPAIR, Plan_Kind.SNAPSHOT].map(kindName);
const refusalReasons = Object.values(Nack_Reason)
  .filter((reason) => typeof reason === 'number' && reason > 0)
  .map((reason) => reasonName(reason as Nack_Reason));

/** By the value of a label. */
type Reading = () => readonly (readonly [string, number])[];

/** Metrics of the controller. Gauges are read when they are asked for; counters are told by the streams. */
export class Metrics implements StreamObserver {
  readonly registry = newMetricsRegistry();
  readonly #plans = this.#counter('octoplane_plans_total', 'Plans sent, by kind.', ['kind']);
  readonly #frames = this.#counter('octoplane_frames_total', 'Frames sent, by kind.', ['kind']);
  readonly #bytes = this.#counter('octoplane_frame_bytes_total', 'Bytes of frames sent, by kind.', ['kind']);
  readonly #refusals = this.#counter('octoplane_nacks_total', 'Frames that nodes refused, by reason.', ['reason']);
  readonly #ended = this.#counter('octoplane_streams_ended_total', 'Streams that the controller ended, by code.', [
    'code',
  ]);
  readonly #connections = this.#counter(
    'octoplane_connections_refused_total',
    'Connections that were closed because no call came from them: too many from one address, or in all, or silent.',
    ['why'],
  );
  readonly #spans = this.#counter(
    'octoplane_trace_spans_total',
    'Spans of kept traces by fate: exported, overflow (no room while the collector was away), failed (it did not take them).',
    ['fate'],
  );
  readonly #corrected = this.#counter(
    'octoplane_audit_corrected_services_total',
    'Services whose views an audit found to be wrong; anything but 0 is a bug.',
    [],
  );
  readonly #latency: Histogram;

  constructor() {
    this.#latency = new Histogram({
      name: 'octoplane_programmed_latency_seconds',
      help: 'From commit to the programmed ack, one observation per frame and node, on the clock of the controller.',
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      registers: [this.registry],
    });
    // A counter that begins with its first event shows no rate of it.
    for (const kind of ['delta', 'repair'] as const) this.sent(kind, 0, 0);
    for (const kind of planKinds) this.#plans.inc({ kind }, 0);
    for (const reason of refusalReasons) this.#refusals.inc({ reason }, 0);
    for (const fate of ['exported', 'overflow', 'failed'] as const) this.countSpans(fate, 0);
  }

  /** Before the first scrape. */
  measure({ history, book, streams, reports, rejected, services, waitingSpans, closedGates }: Measured): void {
    collectDefaultMetrics({ register: this.registry });
    this.#gauge('octoplane_version_sequence', 'Sequence of the newest version.', () => history.head);
    this.#gauge('octoplane_streams', 'Open streams.', streams);
    this.#gauge('octoplane_trace_spans_waiting', 'Spans of kept traces that wait for the collector.', waitingSpans);
    this.#gauge('octoplane_services', 'Services that are served.', services);
    this.#gauge(
      'octoplane_readiness_gates_closed',
      'Pods that are ready but for their gate, which is closed.',
      closedGates,
    );
    this.#gauge('octoplane_rejected_objects', 'Objects that were refused.', () => rejected().length);
    this.#gaugeBy('octoplane_nodes', 'Known nodes, by state.', 'state', () => {
      const counts: Record<NodeState, number> = { current: 0, late: 0, refusing: 0, disconnected: 0 };
      for (const record of book.records) counts[stateOf(record)]++;
      return Object.entries(counts);
    });
    this.#gaugeBy(
      'octoplane_source_synced',
      '1 while a source is in sync, 0 before that and while it is stale.',
      'source',
      () => reports().map(({ name, condition }) => [name, condition.t === 'synced' ? 1 : 0]),
    );
    this.#counterBy(
      'octoplane_bad_traceparents_total',
      'Objects that came with a trace context that is not of the W3C form; it is left out.',
      'source',
      () => reports().map(({ name, badTraceparents }) => [name, badTraceparents]),
    );
    this.#gaugeBy('octoplane_source_objects', 'Objects that a source holds.', 'source', () =>
      reports().map(({ name, objects }) => [name, objects]),
    );
  }

  planned(kind: string): void {
    this.#plans.inc({ kind });
  }

  sent(kind: 'delta' | 'repair', messages: number, bytes: number): void {
    this.#frames.inc({ kind }, messages);
    this.#bytes.inc({ kind }, bytes);
  }

  programmed(latencyUs: number): void {
    this.#latency.observe(latencyUs / 1_000_000);
  }

  refused(reason: string): void {
    this.#refusals.inc({ reason });
  }

  countSpans(fate: SpanFate, spans: number): void {
    this.#spans.inc({ fate }, spans);
  }

  corrected(services: number): void {
    this.#corrected.inc(services);
  }

  connectionRefused(why: Refusal): void {
    this.#connections.inc({ why });
  }

  ended(code: string): void {
    this.#ended.inc({ code });
  }

  #counter<Label extends string>(name: string, help: string, labelNames: Label[]): Counter<Label> {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(read());
      },
    });
  }

  #gaugeBy(name: string, help: string, label: string, read: Reading): void {
    new Gauge({
      name,
      help,
      labelNames: [label],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [value, count] of read()) this.set({ [label]: value }, count);
      },
    });
  }

  /** Counted elsewhere. */
  #counterBy(name: string, help: string, label: string, read: Reading): void {
    new Counter({
      name,
      help,
      labelNames: [label],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [value, count] of read()) this.inc({ [label]: value }, count);
      },
    });
  }
}
