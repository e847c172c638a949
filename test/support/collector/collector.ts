import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import {
  Server as GrpcServer,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { type CollectedSpan, collected, decodeRequest, type Request, traceService } from './decode.ts';

/** 'silent': requests are read and never answered. */
export type Manner = 'takes' | 'refuses' | 'silent';

/**
 * An OpenTelemetry collector as far as traces go: real OTLP, protobuf over gRPC and over HTTP, decoded by its wire format and not by the library that wrote it.
 */
export class Collector implements AsyncDisposable {
  /** In the order of their arrival. Only what was taken. */
  readonly spans: CollectedSpan[] = [];
  /** Requests, taken or not. */
  requests = 0;
  /** Of the last request over HTTP or gRPC. */
  lastHeaders: Readonly<Record<string, unknown>> = {};
  manner: Manner = 'takes';
  readonly #grpc = new GrpcServer({ 'grpc.max_receive_message_length': 64 * 1024 * 1024 });
  readonly #http: HttpServer;
  readonly #watchers = new Set<() => void>();
  readonly #host: string;
  #grpcPort = 0;

  private constructor(host: string) {
    this.#host = host;
    this.#grpc.addService(traceService, {
      Export: (call: ServerUnaryCall<Request, object>, done: sendUnaryData<object>) => {
        this.lastHeaders = call.metadata.getMap();
        this.#received(
          () => call.request,
          () => done(null, {}),
          () => done({ code: status.INVALID_ARGUMENT, details: 'this collector refuses' }),
        );
      },
    });
    this.#http = createServer((request, response) => this.#overHttp(request, response));
  }

  /** `host` is where others than this machine are to reach it. */
  static async listen(host = '127.0.0.1'): Promise<Collector> {
    const collector = new Collector(host);
    collector.#grpcPort = await new Promise<number>((resolve, reject) =>
      collector.#grpc.bindAsync(`${host}:0`, ServerCredentials.createInsecure(), (error, port) =>
        error ? reject(error) : resolve(port),
      ),
    );
    await new Promise<void>((resolve) => collector.#http.listen(0, host, resolve));
    return collector;
  }

  /** What a service needs in its environment to send its traces here, at once. */
  environment(protocol: 'grpc' | 'http/protobuf'): Record<string, string> {
    const port = protocol === 'grpc' ? this.#grpcPort : (this.#http.address() as AddressInfo).port;
    return {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://${this.#host}:${port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
      OTEL_BSP_SCHEDULE_DELAY: '1',
    };
  }

  /** Spans of one trace, whole when `isWhole` says so. */
  trace(id: string): CollectedSpan[] {
    return this.spans.filter(({ traceId }) => traceId === id);
  }

  /** Looks again with every request. */
  async until(condition: () => boolean, signal?: AbortSignal): Promise<void> {
    while (!condition()) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const onAbort = () => reject(signal?.reason);
      this.#watchers.add(resolve);
      signal?.addEventListener('abort', onAbort, { once: true });
      try {
        await promise;
      } finally {
        this.#watchers.delete(resolve);
        signal?.removeEventListener('abort', onAbort);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#grpc.forceShutdown();
    this.#http.closeAllConnections();
    await new Promise((resolve) => this.#http.close(resolve));
  }

  #overHttp(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      this.lastHeaders = request.headers;
      if (request.url !== '/v1/traces' || request.headers['content-type'] !== 'application/x-protobuf') {
        response.writeHead(404).end();
        return;
      }
      const body = Buffer.concat(chunks);
      this.#received(
        () => decodeRequest(request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body),
        () => response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end(),
        () => response.writeHead(400).end(),
      );
    });
  }

  #received(read: () => Request, take: () => void, refuse: () => void): void {
    this.requests++;
    if (this.manner === 'takes') {
      this.spans.push(...collected(read()));
      take();
    } else if (this.manner === 'refuses') refuse();
    for (const watcher of this.#watchers) watcher();
  }
}
