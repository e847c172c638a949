import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import type { Socket } from 'node:net';
import { pipeline, type Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { type Fields, isFields } from '@octoplane/model/findings.ts';
import type { Clock } from '../../clock.ts';
import type { Access, AccessSource } from './access.ts';
import { Connections, keepAliveMs } from './connections.ts';
import { type Asked, fromErrno, fromStatus, KubeError } from './kube-error.ts';
import { Watchdog } from './watchdog.ts';

export interface KubeRequest {
  /** Default GET. */
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** "/api/v1/nodes" (resource-path.ts). */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  /** An object, sent as JSON. */
  readonly body?: object;
  /** Default application/json; a patch names its own. */
  readonly contentType?: string;
  /** Without a word for so long, the request is given up. Default: the client's. */
  readonly silentMs?: number;
}

export interface KubeClientOptions {
  readonly access: AccessSource;
  readonly clock: Clock;
  /** As the API server's audit log names it. */
  readonly userAgent: string;
  /** Without a word for so long, a request is given up. Default 30 s: an API server under load takes seconds, never so many. */
  readonly silentMs?: number;
}

/** A single object: ten times what etcd keeps. */
const maxObjectBytes = 16 * 1024 * 1024;
/** A connection that had waited for the next request, and was closed meanwhile: nobody has heard that one. */
const wasIdle = 'was idle';
/** Of an answer that is an error. */
const maxErrorBytes = 64 * 1024;

/**
 * Requests to one API server: credentials, TLS, one pool of connections, gzip, an end to silence, and errors in our own words. Thin: it
 * neither retries nor waits, apart from credentials that are refused, which are renewed once, and a connection that was closed while it was idle. Nothing is connected before the first request.
 */
export class KubeClient {
  readonly #access: AccessSource;
  readonly #clock: Clock;
  readonly #userAgent: string;
  readonly #silentMs: number;
  readonly #connections = new Connections();

  constructor({ access, clock, userAgent, silentMs = 30_000 }: KubeClientOptions) {
    this.#access = access;
    this.#clock = clock;
    this.#userAgent = userAgent;
    this.#silentMs = silentMs;
  }

  /** @throws KubeError */
  get(path: string, signal: AbortSignal): Promise<Fields> {
    return this.json({ path }, signal);
  }

  /** Into a collection. @throws KubeError EXISTS, and others */
  create(path: string, object: object, signal: AbortSignal): Promise<Fields> {
    return this.json({ method: 'POST', path, body: object }, signal);
  }

  /** With the resourceVersion that was read: what somebody else wrote since is not overwritten. @throws KubeError CONFLICT, and others */
  update(path: string, object: object, signal: AbortSignal): Promise<Fields> {
    return this.json({ method: 'PUT', path, body: object }, signal);
  }

  /** RFC 7386: fields that are named are replaced, null removes one. @throws KubeError */
  patch(path: string, patch: object, signal: AbortSignal): Promise<Fields> {
    return this.json({ method: 'PATCH', path, body: patch, contentType: 'application/merge-patch+json' }, signal);
  }

  /** @throws KubeError NOT_FOUND, and others */
  delete(path: string, signal: AbortSignal): Promise<Fields> {
    return this.json({ method: 'DELETE', path }, signal);
  }

  /** One answer, whole. @throws KubeError */
  async json(request: KubeRequest, signal: AbortSignal): Promise<Fields> {
    return this.stream(request, signal, async (body) => {
      const text = await textOf(body, maxObjectBytes);
      const value: unknown = parseJson(text);
      if (isFields(value)) return value;
      throw new KubeError('PROTOCOL', `${request.path} was answered with something that is no JSON object`);
    });
  }

  /**
   * An answer as it comes, uncompressed. When `read` is through, the rest of it is not waited for. The bytes of chunks may be kept.
   * @throws KubeError, and what `read` throws
   */
  async stream<T>(request: KubeRequest, signal: AbortSignal, read: (body: Readable) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const access = await this.#accessFor(signal);
      try {
        return await this.#once(request, access, signal, read);
      } catch (error) {
        if (!(error instanceof KubeError) || attempt > 1) throw error;
        if (error.code === 'UNAUTHORIZED') this.#access.renew();
        else if (error.reason !== wasIdle || (request.method ?? 'GET') !== 'GET') throw error;
      }
    }
  }

  close(): void {
    this.#connections.close();
  }

  /** What another caller gave up is asked for again. */
  async #accessFor(signal: AbortSignal): Promise<Access> {
    for (;;) {
      try {
        return await this.#access.current(signal);
      } catch (error) {
        if (signal.aborted || !(error instanceof KubeError) || error.code !== 'ABORTED') throw error;
      }
    }
  }

  async #once<T>(
    request: KubeRequest,
    access: Access,
    signal: AbortSignal,
    read: (body: Readable) => Promise<T>,
  ): Promise<T> {
    const { method = 'GET', path, silentMs = this.#silentMs } = request;
    const asked: Asked = { method, path, server: access.server };
    // One signal for everything that ends the request, with the reason that the caller is to hear.
    const end = new AbortController();
    const abort = (): void => end.abort(new KubeError('ABORTED', 'the request was given up'));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    let socket: Socket | null = null;
    const watchdog = new Watchdog(
      this.#clock,
      silentMs,
      () => socket?.bytesRead ?? 0,
      () => end.abort(new KubeError('SILENT', `${access.server} says nothing to ${method} ${path}`)),
    );
    let body: Readable | null = null;
    let sent: ClientRequest | null = null;
    try {
      sent = this.#send(request, access, end.signal);
      sent.on('socket', (connected) => {
        socket = connected.setKeepAlive(true, keepAliveMs);
      });
      const response = await answerTo(sent);
      body = uncompressed(response);
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 300) return await read(body);
      const text = await textOf(body, maxErrorBytes);
      throw fromStatus(status, parseJson(text), response.headers['retry-after'] ?? null, asked);
    } catch (error) {
      if (end.signal.aborted) throw end.signal.reason;
      if (error instanceof Error && ('code' in error || error.name === 'AbortError'))
        throw fromErrno(error, asked, body === null && sent?.reusedSocket ? wasIdle : '');
      throw error;
    } finally {
      watchdog.close();
      signal.removeEventListener('abort', abort);
      body?.destroy();
    }
  }

  #send(request: KubeRequest, access: Access, signal: AbortSignal): ClientRequest {
    const { method = 'GET', path, query = {}, body, contentType = 'application/json' } = request;
    const payload = body === undefined ? null : Buffer.from(JSON.stringify(body));
    const search = new URLSearchParams(query).toString();
    const url = `${access.server}${path}${search === '' ? '' : `?${search}`}`;
    const options = {
      method,
      agent: this.#connections.for(access),
      signal,
      headers: {
        ...access.headers,
        Accept: 'application/json',
        'Accept-Encoding': 'gzip',
        'User-Agent': this.#userAgent,
        ...(payload === null ? {} : { 'Content-Type': contentType, 'Content-Length': String(payload.length) }),
      },
    };
    const open = url.startsWith('https:') ? httpsRequest : httpRequest;
    const sent = open(url, options as RequestOptions);
    sent.end(payload ?? undefined);
    return sent;
  }
}

function answerTo(sent: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    sent.on('response', resolve);
    sent.on('error', reject);
  });
}

/** Errors of either stream are errors of what is returned, and destroying that destroys both. */
function uncompressed(response: IncomingMessage): Readable {
  if (response.headers['content-encoding'] !== 'gzip') return response;
  const gunzip = createGunzip();
  return pipeline(response, gunzip, () => undefined);
}

async function textOf(body: Readable, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new KubeError('PROTOCOL', `an answer has more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Null: it is not JSON, such as the page of a proxy. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
