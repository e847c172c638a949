import { StartError } from '../start-error.ts';
import { type SamplerSetting, samplerSetting } from './sampling.ts';

/** What the standard OTEL_... variables ask of us. Where to, with which headers, certificates and timeouts, the exporters read themselves. */
export interface TracingSettings {
  readonly protocol: 'grpc' | 'http/protobuf';
  readonly sampler: SamplerSetting;
  readonly outbox: OutboxSettings;
}

export interface OutboxSettings {
  /**
   * OTEL_BSP_MAX_QUEUE_SIZE, spans. Default 32,768, not the standard's 2,048: one change of a large fleet has 170, and a burst must fit. What
   * waits is a change's notes, not its spans: about 1 MiB.
   */
  readonly maxSpans: number;
  /** OTEL_BSP_SCHEDULE_DELAY. Default 1 s, not the standard's 5: people wait for a trace. */
  readonly delayMs: number;
  /** OTEL_BSP_MAX_EXPORT_BATCH_SIZE, spans, but whole traces. Default 512, as in the standard. */
  readonly batchSpans: number;
  /** OTEL_BSP_EXPORT_TIMEOUT. Default 30 s, as in the standard. */
  readonly timeoutMs: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Null: traces are off, and nothing of OpenTelemetry is loaded. They are on once somebody says where to send them. */
export function tracingSettings(env: Environment, warn: (message: string) => void): TracingSettings | null {
  const exporter = env['OTEL_TRACES_EXPORTER'] || '';
  const hasEndpoint = Boolean(env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] || env['OTEL_EXPORTER_OTLP_ENDPOINT']);
  if (env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true' || exporter === 'none') return null;
  if (exporter === '' && !hasEndpoint) return null;
  if (exporter !== '' && exporter !== 'otlp')
    throw new StartError('OPTIONS', `OTEL_TRACES_EXPORTER=${exporter}: only otlp and none are supported.`);
  return {
    protocol: protocolOf(env['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL'] || env['OTEL_EXPORTER_OTLP_PROTOCOL'] || ''),
    sampler: samplerSetting(env['OTEL_TRACES_SAMPLER'], env['OTEL_TRACES_SAMPLER_ARG'], warn),
    outbox: {
      maxSpans: positive(env, 'OTEL_BSP_MAX_QUEUE_SIZE', 32_768, warn),
      delayMs: positive(env, 'OTEL_BSP_SCHEDULE_DELAY', 1000, warn),
      batchSpans: positive(env, 'OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 512, warn),
      timeoutMs: positive(env, 'OTEL_BSP_EXPORT_TIMEOUT', 30_000, warn),
    },
  };
}

/** The standard's default is HTTP. */
function protocolOf(text: string): TracingSettings['protocol'] {
  if (text === '') return 'http/protobuf';
  if (text === 'grpc' || text === 'http/protobuf') return text;
  throw new StartError('OPTIONS', `OTEL_EXPORTER_OTLP_PROTOCOL=${text}: use grpc or http/protobuf.`);
}

function positive(env: Environment, name: string, otherwise: number, warn: (message: string) => void): number {
  const text = env[name] ?? '';
  if (text === '') return otherwise;
  const number = Number(text);
  if (Number.isInteger(number) && number > 0) return number;
  warn(`${name}=${text} is not a positive whole number; ${otherwise} is used.`);
  return otherwise;
}
