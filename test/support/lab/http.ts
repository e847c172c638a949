import { once } from 'node:events';
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import type { Ip } from '@octoplane/model/address.ts';
import type { Place } from './plan.ts';
import { connectFrom } from './relay.ts';

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** One GET from a place of the lab. */
export async function httpGet(place: Place, ip: Ip, port: number, path: string): Promise<HttpAnswer> {
  // No agent: it would make connections of its own.
  const sent = request({ createConnection: () => connectFrom(place, ip, port), host: ip, port, path });
  sent.end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const body = (await response.setEncoding('utf8').toArray()).join('');
  return { status: response.statusCode ?? 0, headers: response.headers, body };
}
