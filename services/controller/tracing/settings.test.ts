import { expect, test } from 'vitest';
import { tracingSettings } from './settings.ts';

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' };
const read = (env: Record<string, string>) => {
  const warnings: string[] = [];
  const settings = tracingSettings(env, (message) => warnings.push(message));
  return { settings, warnings };
};

test.each([
  ['nobody says where to', {}],
  ['it is switched off', { ...endpoint, OTEL_SDK_DISABLED: 'true' }],
  ['no exporter is wanted', { ...endpoint, OTEL_TRACES_EXPORTER: 'none' }],
  ['an endpoint is there for something else', { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'http://127.0.0.1:4318' }],
])('off when %s', (_, env) => {
  expect(read(env as Record<string, string>).settings).toBeNull();
});

test.each([
  ['an endpoint', endpoint, 'http/protobuf'],
  [
    'an endpoint for traces',
    { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://127.0.0.1:4318/v1/traces' },
    'http/protobuf',
  ],
  ['an exporter', { OTEL_TRACES_EXPORTER: 'otlp' }, 'http/protobuf'],
  ['gRPC', { ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }, 'grpc'],
  [
    'gRPC for traces alone',
    { ...endpoint, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'grpc', OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' },
    'grpc',
  ],
])('on with %s', (_, env, protocol) => {
  expect(read(env as Record<string, string>)).toMatchObject({ settings: { protocol }, warnings: [] });
});

test.each([
  ['OTEL_TRACES_EXPORTER', 'zipkin'],
  ['OTEL_EXPORTER_OTLP_PROTOCOL', 'http/json'],
])('%s=%s ends the start with a word on what there is', (name, value) => {
  expect(() => read({ ...endpoint, [name]: value })).toThrow(new RegExp(`${name}=${value}: `));
});

test('numbers that are none are told and replaced', () => {
  const { settings, warnings } = read({
    ...endpoint,
    OTEL_BSP_MAX_QUEUE_SIZE: 'many',
    OTEL_BSP_SCHEDULE_DELAY: '250',
    OTEL_TRACES_SAMPLER: 'sometimes',
  });
  expect(settings?.outbox).toEqual({ maxSpans: 32_768, delayMs: 250, batchSpans: 512, timeoutMs: 30_000 });
  expect(warnings).toHaveLength(2);
});
