import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Access } from './access.ts';

/**
 * A peer that vanished without a word is found by the kernel's own probes after twice this: libuv sends one a second, ten of them,
 * once a connection has been quiet so long.
 */
export const keepAliveMs = 10_000;

/** Quiet connections kept for the next request. Watches hold one each; lists and writes come one after another. */
const maxIdle = 4;

/**
 * One pool of connections to an API server, for all that is asked of it. With other certificates or another CA a new pool begins, and
 * what is under way on the old one may end.
 */
export class Connections {
  #fingerprint = '';
  #agent: HttpAgent | HttpsAgent | null = null;

  for(access: Access): HttpAgent | HttpsAgent {
    const { server, tls, proxyUrl } = access;
    const fingerprint = JSON.stringify([server, tls, proxyUrl]);
    if (this.#agent !== null && fingerprint === this.#fingerprint) return this.#agent;
    this.#retire();
    this.#fingerprint = fingerprint;
    this.#agent = agentFor(access);
    return this.#agent;
  }

  /** Cuts all of it. */
  close(): void {
    this.#agent?.destroy();
    this.#agent = null;
  }

  /** A connection that is freed later, too, finds no place to wait. */
  #retire(): void {
    const agent = this.#agent;
    if (agent === null) return;
    agent.maxFreeSockets = 0;
    for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
  }
}

function agentFor({ server, tls, proxyUrl }: Access): HttpAgent | HttpsAgent {
  const options = {
    keepAlive: true,
    keepAliveMsecs: keepAliveMs,
    maxFreeSockets: maxIdle,
    ...(proxyUrl === null ? {} : { proxyEnv: { HTTP_PROXY: proxyUrl, HTTPS_PROXY: proxyUrl } }),
  };
  if (!server.startsWith('https:')) return new HttpAgent(options);
  return new HttpsAgent({
    ...options,
    ...(tls.ca === null ? {} : { ca: tls.ca }),
    ...(tls.cert === null ? {} : { cert: tls.cert }),
    ...(tls.key === null ? {} : { key: tls.key }),
    ...(tls.servername === null ? {} : { servername: tls.servername }),
    rejectUnauthorized: !tls.unverified,
  });
}
