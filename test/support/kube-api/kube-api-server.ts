import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Credential } from '@octoplane/cli/certs/authority.ts';
import { listPage, tooLarge } from './list.ts';
import { readListOptions } from './options.ts';
import { type ServedResource, servedResources, type Target, targetOf } from './resources.ts';
import { badRequest, expired, StatusError } from './status.ts';
import { type Manifest, recordOf, Store } from './store.ts';
import { Watch } from './watch.ts';
import { sendWhole, type Transmission } from './wire.ts';
import { type PatchKind, Writes } from './write.ts';

/** What becomes of a request before it is answered. */
export type Fault =
  | { readonly t: 'status'; readonly code: number; readonly retryAfterSeconds?: number }
  /** The connection is closed instead. */
  | { readonly t: 'reset' }
  /** Taken, and never answered. */
  | { readonly t: 'silent' }
  /** The answer, but for its end. Of a watch: its first event is cut. */
  | { readonly t: 'cut'; readonly at: number };

/** A request as RBAC sees it. */
export interface Request {
  readonly verb: 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete';
  readonly group: string;
  /** "services", "services/status". */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly query: URLSearchParams;
}

export interface KubeApiOptions {
  /** Default: all of resources.ts. */
  readonly resources?: readonly ServedResource[];
  /** Is the WatchList feature on? Default true, as from 1.32 on. */
  readonly watchList?: boolean;
  /** A watch from a revision that is gone: refused with 410, or answered with 200 and an ERROR event. Servers do either. Default "event". */
  readonly goneAs?: 'status' | 'event';
  /** A watch from a revision that is yet to come: refused with 504, or taken, and silent until then. Servers do either. Default "silence". */
  readonly futureAs?: 'error' | 'silence';
  /** Default: http. */
  readonly tls?: Credential;
  /** Tokens that are taken. Default: anybody is let in. */
  readonly tokens?: ReadonlySet<string>;
  /** What the bearer of a token, or anybody, may do. Default: everything. */
  readonly allows?: (request: Request) => boolean;
  /** Asked before each request is answered. */
  readonly fault?: (request: Request) => Fault | null;
  /** In how small pieces answers are sent. Default: as they come. */
  readonly pieceBytes?: () => number | null;
  /** Bookmarks for every watch, as often. Default: none but those that `bookmark` sends. */
  readonly bookmarkMs?: number;
  readonly port?: number;
  /** Where it listens, in another network namespace: a bound socket each time. Default: 127.0.0.1. */
  readonly place?: { readonly ip: string; readonly port: number; readonly bind: () => number };
}

/**
 * A stand-in for kube-apiserver, as strict as the real one where clients rely on it, and stricter towards them: whatever a client sends that
 * a real server would pass over in silence is a complaint. `store` is written by the test itself or over HTTP.
 */
export class KubeApiServer implements AsyncDisposable {
  readonly store: Store;
  readonly watches = new Set<Watch>();
  readonly requests: Request[] = [];
  #closedBytes = 0;
  /** What no client should have sent. A test ends by looking at it. */
  readonly complaints: string[] = [];
  options: KubeApiOptions;
  readonly #resources: readonly ServedResource[];
  readonly #writes: Writes;
  readonly #server: Server | TlsServer;
  readonly #sockets = new Set<Socket>();
  readonly #bookmarks: NodeJS.Timeout | null;
  #port = 0;

  private constructor(options: KubeApiOptions) {
    this.options = options;
    this.#resources = options.resources ?? servedResources;
    this.store = new Store(this.#resources);
    this.#writes = new Writes(this.store);
    const answer = (request: IncomingMessage, response: ServerResponse): void => {
      this.#answer(request, response).catch((error: unknown) => {
        this.complaints.push(`the stand-in failed: ${error instanceof Error ? error.stack : String(error)}`);
        response.destroy();
      });
    };
    this.#server = options.tls ? createTlsServer(options.tls, answer) : createServer(answer);
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        this.#closedBytes += socket.bytesWritten;
      });
    });
    const { bookmarkMs } = options;
    this.#bookmarks = bookmarkMs === undefined ? null : setInterval(() => this.bookmark(), bookmarkMs);
  }

  static async start(options: KubeApiOptions = {}): Promise<KubeApiServer> {
    const server = new KubeApiServer(options);
    await server.listen();
    return server;
  }

  get url(): string {
    return `${this.options.tls ? 'https' : 'http'}://${this.options.place?.ip ?? '127.0.0.1'}:${this.#port}`;
  }

  /** On all connections so far. */
  get bytesWritten(): number {
    return [...this.#sockets].reduce((sum, { bytesWritten }) => sum + bytesWritten, this.#closedBytes);
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Again at the same port, with everything that was stored. */
  async listen(): Promise<void> {
    const { place, port } = this.options;
    if (place) this.#server.listen({ fd: place.bind() });
    else this.#server.listen(this.#port || port || 0, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = place?.port ?? (this.#server.address() as AddressInfo).port;
  }

  /** As if the process were killed: connections break, and nobody listens. */
  async kill(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Another certificate for new connections. */
  renewTls(credential: Credential): void {
    if ('setSecureContext' in this.#server) this.#server.setSecureContext(credential);
  }

  /** To every watch that asked for them. */
  bookmark(): void {
    for (const watch of this.watches) watch.bookmark(this.store.revision);
  }

  resource(plural: string): ServedResource {
    const found = this.#resources.find((one) => one.plural === plural);
    if (!found) throw new Error(`the stand-in serves no ${plural}`);
    return found;
  }

  /** As somebody else would write it; creates or replaces. The revision of the write. */
  put(plural: string, manifest: Manifest): number {
    return this.store.put(this.resource(plural), manifest).revision;
  }

  /** `key`: "NAMESPACE/NAME", or "/NAME". */
  remove(plural: string, key: string): void {
    this.store.remove(this.resource(plural), key);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#bookmarks !== null) clearInterval(this.#bookmarks);
    if (this.#server.listening) await this.kill();
  }

  async #answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieceBytes = this.options.pieceBytes?.() ?? null;
    const gzip = incoming.headers['accept-encoding'] === 'gzip';
    const send = (code: number, body: object | Buffer, transmission: Partial<Transmission> = {}): void => {
      const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
      const retryAfter =
        body instanceof Object && 'details' in body ? recordOf(body.details)['retryAfterSeconds'] : undefined;
      const headers = retryAfter === undefined ? {} : { 'Retry-After': String(retryAfter) };
      sendWhole(response, code, bytes, headers, { pieceBytes, cutAt: null, ...transmission }, gzip);
    };
    try {
      const body = await bodyOf(incoming);
      if (incoming.url === '/version') {
        this.#version(response, send);
        return;
      }
      const { target, patchKind, request } = this.#read(incoming, body);
      this.requests.push(request);
      this.#authenticate(incoming, request);
      const fault = this.options.fault?.(request) ?? null;
      if (fault?.t === 'silent') return;
      if (fault?.t === 'reset') {
        response.destroy();
        return;
      }
      if (fault?.t === 'status') {
        const { code, retryAfterSeconds } = fault;
        throw new StatusError(
          code,
          'Injected',
          'this fault was asked for',
          retryAfterSeconds === undefined ? {} : { retryAfterSeconds },
        );
      }
      if (request.verb === 'watch') await this.#watch(response, target, request, pieceBytes, fault !== null);
      else
        send(request.verb === 'create' ? 201 : 200, this.#act(target, request, body, patchKind), {
          cutAt: fault?.at ?? null,
        });
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      if (response.headersSent) response.destroy();
      else send(error.code, error.toJson());
    }
  }

  /** Open to everybody, and hanging when everything else does. */
  #version(response: ServerResponse, send: (code: number, body: object) => void): void {
    const request = {
      verb: 'get',
      group: '',
      resource: '/version',
      namespace: '',
      name: '',
      query: new URLSearchParams(),
    } as const;
    const fault = this.options.fault?.(request) ?? null;
    if (fault?.t === 'reset') response.destroy();
    else if (fault?.t !== 'silent') send(200, { major: '1', minor: '34', gitVersion: 'v1.34.0' });
  }

  #read(
    incoming: IncomingMessage,
    body: Buffer,
  ): { readonly target: Target; readonly patchKind: PatchKind; readonly request: Request } {
    const { method = '', headers, url = '' } = incoming;
    const { pathname, searchParams: query } = new URL(url, 'http://stand-in');
    const complain = (what: string): void => void this.complaints.push(`${method} ${url}: ${what}`);
    if (!headers.accept?.split(',').some((type) => type.trim().startsWith('application/json')))
      complain('accepts no JSON');
    if (!headers['user-agent']) complain('no User-Agent');
    if ((method === 'GET') === body.length > 0 && method !== 'DELETE')
      complain('a body where none belongs, or none where one does');
    const target = targetOf(pathname, this.#resources);
    if (target === null) {
      if (!servedResources.some((one) => targetOf(pathname, [one]) !== null)) complain('there is no such path');
      throw new StatusError(404, 'NotFound', 'the server could not find the requested resource');
    }
    const { resource, namespace, name, subresource } = target;
    const isWatch = name === '' && /^(true|1)$/.test(query.get('watch') ?? '');
    const verbs: Readonly<Record<string, Request['verb']>> = {
      GET: name !== '' ? 'get' : isWatch ? 'watch' : 'list',
      POST: 'create',
      PUT: 'update',
      PATCH: 'patch',
      DELETE: 'delete',
    };
    const verb = verbs[method];
    if (!verb || (verb === 'create') !== (name === '' && method === 'POST'))
      throw new StatusError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource');
    const type = headers['content-type'];
    const wanted = verb === 'patch' ? patchTypes(resource) : ['application/json'];
    if (body.length > 0 && !wanted.includes(type ?? ''))
      throw new StatusError(415, 'UnsupportedMediaType', `the body is ${type}, not ${wanted.join(' or ')}`);
    const path = subresource === '' ? resource.plural : `${resource.plural}/${subresource}`;
    const patchKind = type === strategicPatch ? 'strategic' : 'merge';
    return { target, patchKind, request: { verb, group: resource.group, resource: path, namespace, name, query } };
  }

  #authenticate({ headers }: IncomingMessage, request: Request): void {
    const { tokens, allows } = this.options;
    const token = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1];
    if (tokens && (token === undefined || !tokens.has(token)))
      throw new StatusError(401, 'Unauthorized', 'Unauthorized');
    if (allows && !allows(request))
      throw new StatusError(
        403,
        'Forbidden',
        `${request.resource} is forbidden: User "test" cannot ${request.verb} resource "${request.resource}"`,
      );
  }

  #act(target: Target, { verb, query }: Request, body: Buffer, patchKind: PatchKind): Buffer {
    if (verb === 'list') {
      const options = readListOptions(query, this.#features, (what) => void this.complaints.push(`list: ${what}`));
      return listPage(this.store, this.store.collection(target.resource), target.namespace, options);
    }
    for (const name of query.keys()) this.complaints.push(`${verb}: unknown query parameter ${name}`);
    const manifest = manifestOf(body);
    switch (verb) {
      case 'get':
        return this.#writes.get(target).json;
      case 'create':
        return this.#writes.create(target, manifest).json;
      case 'update':
        return this.#writes.update(target, manifest).json;
      case 'patch':
        return this.#writes.patch(target, manifest, patchKind).json;
      default:
        return this.#writes.remove(target, manifest).json;
    }
  }

  async #watch(
    response: ServerResponse,
    target: Target,
    { query }: Request,
    pieceBytes: number | null,
    cut: boolean,
  ): Promise<void> {
    const options = readListOptions(query, this.#features, (what) => void this.complaints.push(`watch: ${what}`));
    const { resourceVersion: from, initialEvents } = options;
    const collection = this.store.collection(target.resource);
    const { revision, compactedTo } = this.store;
    if (from !== null && from > revision && this.options.futureAs === 'error') throw tooLarge(from, revision);
    const gone =
      !initialEvents && from !== null && from !== 0 && from < compactedTo ? expired(from, compactedTo) : null;
    if (gone && this.options.goneAs === 'status') throw gone;
    const watch = new Watch(response, collection, target.namespace, options, pieceBytes, (over) =>
      this.watches.delete(over),
    );
    this.watches.add(watch);
    if (cut) watch.cutNext();
    if (gone) watch.startWithError(gone);
    else if (initialEvents || from === null || from === 0) await watch.startWithState(revision);
    else watch.startFrom(from);
  }

  get #features(): { readonly watchList: boolean } {
    return { watchList: this.options.watchList ?? true };
  }
}

const strategicPatch = 'application/strategic-merge-patch+json';

/** Kinds that are defined by clients have no struct tags, and so no strategy. */
const patchTypes = ({ group }: ServedResource): readonly string[] =>
  group.endsWith('.x-k8s.io') ? ['application/merge-patch+json'] : ['application/merge-patch+json', strategicPatch];

async function bodyOf(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function manifestOf(body: Buffer): Manifest {
  if (body.length === 0) return {};
  try {
    return recordOf(JSON.parse(body.toString()));
  } catch (cause) {
    throw badRequest(`the body is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
}
