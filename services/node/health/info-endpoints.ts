import type { RequestListener } from 'node:http';
import { notFound, pathOf } from './node-endpoints.ts';

export interface InfoEndpoints {
  /** The driver's name, where kube-proxy says "iptables" or "nftables". */
  readonly proxyMode: string;
  /** Printed as JSON; must hold no secret. */
  readonly configz: () => unknown;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  /** Answered here too, as kube-proxy does. */
  readonly health: RequestListener;
}

/** `/metrics`, `/proxyMode` and `/configz` (P50). */
export function infoEndpoints(options: InfoEndpoints): RequestListener {
  return (request, response) => {
    switch (pathOf(request)) {
      case '/proxyMode':
        response
          .writeHead(200, { 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff' })
          .end(options.proxyMode);
        return;
      case '/configz':
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(options.configz()));
        return;
      case '/healthz':
      case '/livez':
        options.health(request, response);
        return;
      case '/metrics':
        options.metrics().then(
          ({ contentType, text }) => response.writeHead(200, { 'content-type': contentType }).end(text),
          (error: unknown) => response.writeHead(500).end(error instanceof Error ? error.message : String(error)),
        );
        return;
      default:
        notFound(response);
    }
  };
}
