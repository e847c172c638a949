/** As exporter-grpc.ts. */
export { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
