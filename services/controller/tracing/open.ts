import { randomBytes } from 'node:crypto';
import { ROOT_CONTEXT } from '@opentelemetry/api';
import { SamplingDecision, TraceIdRatioBasedSampler } from '@opentelemetry/sdk-trace';
import type { Logger } from 'pino';
import type { NodeRecord } from '../acks/node-record.ts';
import type { Clock } from '../clock.ts';
import type { History } from '../history/history.ts';
import { openSender } from './otlp.ts';
import { Outbox, type SpanFate } from './outbox.ts';
import { Resources } from './resources.ts';
import { headSampling } from './sampling.ts';
import type { TracingSettings } from './settings.ts';
import { countSpans, spansOf } from './spans.ts';
import { Tracer } from './tracer.ts';

export interface TracingContext {
  readonly history: History;
  readonly missing: (sequence: number) => readonly NodeRecord[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly release: string;
  readonly onCounted: (fate: SpanFate, spans: number) => void;
}

export interface Tracing {
  readonly tracer: Tracer;
  readonly waitingSpans: () => number;
  /** Tells what is on its way as it is, and gives the collector a moment to take it. */
  close(): Promise<void>;
}

/** What a collector may take at the end; interface.md leaves 5 s for everything. */
const farewellMs = 1500;

/** Loads OpenTelemetry and wires the tracer to a collector. Imported only when traces are on: off, they cost nothing. */
export async function openTracing(settings: TracingSettings, context: TracingContext): Promise<Tracing> {
  const { history, clock, logger, release } = context;
  const sender = await openSender(settings.protocol, logger);
  const resources = new Resources(release);
  const making = {
    epoch: history.epoch,
    resource: resources.controller,
    resourceOf: (node: NodeRecord) => resources.node(node),
    scope: { name: 'octoplane', version: release },
    newSpanId: () => randomBytes(8).toString('hex'),
  };
  const outbox = new Outbox({
    settings: settings.outbox,
    spansOf: (change) => spansOf(change, making),
    countOf: countSpans,
    send: sender.send,
    clock,
    logger,
    onCounted: context.onCounted,
  });
  const ratio = new TraceIdRatioBasedSampler(settings.sampler.ratio);
  const isWithin = (traceId: string) =>
    ratio.shouldSample(ROOT_CONTEXT, traceId).decision === SamplingDecision.RECORD_AND_SAMPLED;
  const tracer = new Tracer({
    history,
    clock,
    sampling: headSampling(settings.sampler, isWithin),
    missing: context.missing,
    keep: (change) => outbox.offer(change),
  });
  const { protocol, sampler } = settings;
  logger.info({ protocol, ...sampler }, 'changes are traced');
  return {
    tracer,
    waitingSpans: () => outbox.waitingSpans,
    async close() {
      tracer.close();
      await Promise.race([outbox.flush(), new Promise<void>((resolve) => clock.after(farewellMs, resolve))]);
      // Waits for what is under way, which may be a collector that never answers: nobody waits for that.
      sender.close().catch((error: unknown) => logger.warn({ err: error }, 'the trace exporter did not close'));
    },
  };
}
