/** A module of ours, to be loaded when it is wanted: a bundle gives a CommonJS package that is imported later no names. */
export { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
