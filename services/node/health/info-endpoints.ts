import type { RequestListener, ServerResponse } from 'node:http';
import { parseServicePortKey, type ServicePortKey } from '@octoplane/model/keys.ts';
import type { Evidence } from '../drivers/driver.ts';
import { notFound, pathOf } from './node-endpoints.ts';

export interface InfoEndpoints {
  /** The driver's name, where kube-proxy says "iptables" or "nftables". */
  readonly proxyMode: string;
  /** Printed as JSON; must hold no secret. */
  readonly configz: () => unknown;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  /** What the kernel holds of a service port; null: this driver cannot tell. */
  readonly explain: (key: ServicePortKey) => readonly Evidence[] | null;
  /** Answered here too, as kube-proxy does. */
  readonly health: RequestListener;
}

/** `/metrics`, `/proxyMode` and `/configz` (P50), and `/explain?service=NAMESPACE/NAME:PORT/PROTOCOL`. */
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
      case '/explain':
        explain(options, request.url ?? '', response);
        return;
      default:
        notFound(response);
    }
  };
}

/** `{"driver","service","evidence":[{"object","at","says"}]}`; evidence is null where the driver cannot tell. */
function explain({ proxyMode, explain: ask }: InfoEndpoints, url: string, response: ServerResponse): void {
  const service = new URL(url, 'http://node').searchParams.get('service') ?? '';
  const json = (status: number, body: unknown) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
  if (parseServicePortKey(service) === null)
    return void json(400, {
      error: `service=${service}: write NAMESPACE/NAME:PORT/PROTOCOL, as in default/web:80/TCP`,
    });
  json(200, { driver: proxyMode, service, evidence: ask(service as ServicePortKey) });
}
