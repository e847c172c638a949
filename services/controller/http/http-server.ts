import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { hostPortOf, listenError } from '../grpc-server.ts';
import { formFor, type MetricsRegistry, metricsText } from './metrics-text.ts';

export interface Health {
  /** Null: ready. Otherwise why not, in words. */
  whyNotReady(): string | null;
}

/** Who answers other paths; false: it is none of his. */
export interface Paths {
  serve(url: URL, request: IncomingMessage, response: ServerResponse): boolean;
}

/** For a question to arrive in, milliseconds; Node's own are a minute and more. Answers of the gate may take as long as they like. */
const limits = { headersTimeout: 10_000, requestTimeout: 15_000, connectionsCheckingInterval: 2_000 } as const;

/** /healthz, /livez, /readyz and /metrics, and what the gate answers. */
export function httpServer(health: Health, registry: MetricsRegistry, gate: Paths): Server {
  return createServer(limits, (request, response) => {
    const text = (code: number, body: string) => {
      response.writeHead(code, { 'content-type': 'text/plain; charset=utf-8' });
      response.end(request.method === 'HEAD' ? undefined : `${body}\n`);
    };
    // "//" and its like come from whoever reaches the port, and are no URL.
    const url = URL.parse(request.url ?? '/', 'http://controller');
    if (url === null) {
      text(400, 'the path is not one');
      return;
    }
    const path = url.pathname;
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      text(405, 'GET or HEAD');
    } else if (path === '/healthz' || path === '/livez') {
      text(200, 'ok');
    } else if (path === '/readyz') {
      const why = health.whyNotReady();
      text(why === null ? 200 : 503, why ?? 'ok');
    } else if (path === '/metrics') {
      const form = formFor(request.headers.accept);
      metricsText(registry, form).then(
        (metrics) => {
          response.writeHead(200, { 'content-type': form });
          response.end(metrics);
        },
        (error: Error) => text(500, error.message),
      );
    } else if (request.method === 'HEAD' || !gate.serve(url, request, response)) {
      text(404, 'GET /healthz, /livez, /readyz, /metrics, /gone or /programmed');
    }
  });
}

/** Resolves with the port. */
export function listenHttp(server: Server, address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => reject(listenError('--http', address, cause)));
    server.listen(hostPortOf(address), () => {
      const bound = server.address();
      resolve(typeof bound === 'object' && bound ? bound.port : 0);
    });
  });
}
