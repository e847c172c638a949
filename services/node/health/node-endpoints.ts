import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Clock } from '../clock.ts';
import type { Health } from './proxy-health.ts';

export interface NodeEndpoints {
  readonly health: () => Health;
  readonly clock: Clock;
  /** After every answer, with its status. */
  readonly answered: (endpoint: 'healthz' | 'livez', code: number) => void;
}

/** `/healthz` and `/livez` as kube-proxy answers them (P48, P49). */
export function nodeEndpoints(options: NodeEndpoints): RequestListener {
  return (request, response) => {
    const path = pathOf(request);
    if (path === '/healthz') healthz(options, response);
    else if (path === '/livez') livez(options, response);
    else notFound(response);
  };
}

export const pathOf = (request: IncomingMessage): string => (request.url ?? '/').split('?', 1)[0] ?? '/';

export function notFound(response: ServerResponse): void {
  response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('404 page not found\n');
}

function healthz({ health, clock, answered }: NodeEndpoints, response: ServerResponse): void {
  const { healthy, nodeEligible, lastUpdatedMs } = health();
  const body = `{"lastUpdated": "${timeText(lastUpdatedMs)}","currentTime": "${timeText(clock.nowMs())}", "nodeEligible": ${nodeEligible}}`;
  answered('healthz', answer(response, healthy, body));
}

function livez({ health, clock, answered }: NodeEndpoints, response: ServerResponse): void {
  const { alive, lastUpdatedMs } = health();
  const body = `{"lastUpdated": "${timeText(lastUpdatedMs)}","currentTime": "${timeText(clock.nowMs())}"}`;
  answered('livez', answer(response, alive, body));
}

function answer(response: ServerResponse, good: boolean, body: string): number {
  const code = good ? 200 : 503;
  response.writeHead(code, { 'content-type': 'application/json', 'x-content-type-options': 'nosniff' }).end(body);
  return code;
}

/** As Go prints a time.Time, which is what kube-proxy's body holds and what some scripts cut apart. */
const timeText = (ms: number): string => {
  const iso = new Date(ms).toISOString();
  return `${iso.slice(0, 10)} ${iso.slice(11, 23)} +0000 UTC`;
};
