import { fileURLToPath } from 'node:url';
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

/** A span as a collector got it, with what its resource says. Times are microseconds since 1970. */
export interface CollectedSpan {
  readonly service: string;
  readonly resource: Attributes;
  readonly traceId: string;
  readonly id: string;
  /** Empty: it is a root. */
  readonly parent: string;
  readonly name: string;
  readonly fromUs: number;
  readonly toUs: number;
  readonly attributes: Attributes;
  readonly links: readonly { readonly traceId: string; readonly id: string }[];
  readonly status: { readonly code: number; readonly message: string };
}

export type Attributes = Readonly<Record<string, Value>>;
type Value = string | number | boolean | readonly Value[];

const { 'opentelemetry.proto.collector.trace.v1.TraceService': service } = loadSync(
  fileURLToPath(new URL('./otlp.proto', import.meta.url)),
  { longs: String, defaults: true, oneofs: true },
);
export const traceService = service as ServiceDefinition;
const method = traceService['Export'] as MethodDefinition<Request, object>;

export interface Request {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly KeyValue[] } | null;
    readonly scopeSpans: readonly { readonly spans: readonly WireSpan[] }[];
  }[];
}

interface WireSpan {
  readonly traceId: Buffer;
  readonly spanId: Buffer;
  readonly parentSpanId: Buffer;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly KeyValue[];
  readonly links: readonly { readonly traceId: Buffer; readonly spanId: Buffer }[];
  readonly status: { readonly message: string; readonly code: number } | null;
}

interface KeyValue {
  readonly key: string;
  readonly value: AnyValue;
}

interface AnyValue {
  readonly value: 'stringValue' | 'boolValue' | 'intValue' | 'doubleValue' | 'arrayValue';
  readonly stringValue: string;
  readonly boolValue: boolean;
  readonly intValue: string;
  readonly doubleValue: number;
  readonly arrayValue: { readonly values: readonly AnyValue[] };
}

export const decodeRequest = (bytes: Buffer): Request => method.requestDeserialize(bytes);

export const collected = ({ resourceSpans }: Request): CollectedSpan[] =>
  resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const of = attributesOf(resource?.attributes ?? []);
    return scopeSpans.flatMap(({ spans }) => spans.map((span) => collectedSpan(span, of)));
  });

const collectedSpan = (span: WireSpan, resource: Attributes): CollectedSpan => ({
  service: String(resource['service.name']),
  resource,
  traceId: span.traceId.toString('hex'),
  id: span.spanId.toString('hex'),
  parent: span.parentSpanId.toString('hex'),
  name: span.name,
  fromUs: microseconds(span.startTimeUnixNano),
  toUs: microseconds(span.endTimeUnixNano),
  attributes: attributesOf(span.attributes),
  links: span.links.map((link) => ({ traceId: link.traceId.toString('hex'), id: link.spanId.toString('hex') })),
  status: span.status ?? { code: 0, message: '' },
});

const microseconds = (nanoseconds: string): number => Number(BigInt(nanoseconds) / 1000n);

const attributesOf = (pairs: readonly KeyValue[]): Attributes =>
  Object.fromEntries(pairs.map(({ key, value }) => [key, toValue(value)]));

function toValue(any: AnyValue): Value {
  switch (any.value) {
    case 'stringValue':
      return any.stringValue;
    case 'boolValue':
      return any.boolValue;
    case 'intValue':
      return Number(any.intValue);
    case 'doubleValue':
      return any.doubleValue;
    case 'arrayValue':
      return any.arrayValue.values.map(toValue);
  }
}
