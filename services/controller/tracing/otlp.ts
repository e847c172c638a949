import { DiagLogLevel, diag } from '@opentelemetry/api';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace';
import type { Logger } from 'pino';
import type { TracingSettings } from './settings.ts';

export interface SpanSender {
  /** Rejects when the collector has not taken them. Tries again by itself where the protocol says so, within OTEL_EXPORTER_OTLP_TIMEOUT. */
  send(spans: readonly ReadableSpan[]): Promise<void>;
  close(): Promise<void>;
}

/** OpenTelemetry's own exporter for a protocol. It reads endpoint, headers, certificates, compression and timeout from the environment. */
export async function openSender(protocol: TracingSettings['protocol'], logger: Logger): Promise<SpanSender> {
  // What they have to say of their configuration, they say here. Later failures come with each batch.
  const warn = (message: string) => logger.warn(message);
  const quiet = () => undefined;
  diag.setLogger({ error: warn, warn, info: quiet, debug: quiet, verbose: quiet }, DiagLogLevel.WARN);
  const exporter = await newExporter(protocol);
  diag.disable();
  return {
    send: (spans) =>
      new Promise((resolve, reject) => {
        exporter.export([...spans], ({ code, error }) => {
          if (code === 0) resolve();
          else reject(error ?? new Error('the collector did not take the spans'));
        });
      }),
    close: () => exporter.shutdown(),
  };
}

/** Only what is asked for is loaded. */
async function newExporter(protocol: TracingSettings['protocol']): Promise<SpanExporter> {
  if (protocol === 'grpc') {
    const { OTLPTraceExporter } = await import('./exporter-grpc.ts');
    return new OTLPTraceExporter();
  }
  const { OTLPTraceExporter } = await import('./exporter-http.ts');
  return new OTLPTraceExporter();
}
