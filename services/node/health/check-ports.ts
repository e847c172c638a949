import type { RequestListener } from 'node:http';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import type { Logger } from 'pino';
import { Serial } from '../reconcile/serial.ts';
import { type HttpService, listenHttp } from './http.ts';
import { LocalEndpoints, type LocalService } from './local-endpoints.ts';

export interface CheckPortsOptions {
  readonly logger: Logger;
  /** Where to listen, asked for each port that is opened. */
  readonly hosts: () => readonly string[];
  /** The proxy's own health, whatever becomes of the node. */
  readonly proxyHealthy: () => boolean;
  readonly onClash: (service: ServiceName) => void;
}

interface OpenPort {
  readonly port: number;
  readonly servers: readonly HttpService[];
  service: LocalService;
}

/**
 * Health check node ports (P26, P27): a server per Service, which tells load balancers whether this node has an
 * endpoint of it. A port that is taken costs that Service its health check and nothing else (P54); it is tried again with
 * the Service's next change.
 */
export class CheckPorts {
  readonly #options: CheckPortsOptions;
  readonly #endpoints = new LocalEndpoints();
  readonly #open = new Map<ServiceName, OpenPort>();
  readonly #serial = new Serial();
  #failing = new Set<ServiceName>();

  constructor(options: CheckPortsOptions) {
    this.#options = options;
  }

  /** Services whose port could not be opened. */
  get failing(): number {
    return this.#failing.size;
  }

  update(changes: readonly EntryChange[]): Promise<void> {
    const services = this.#endpoints.update(changes);
    if (services.size === 0) return Promise.resolve();
    return this.#serial.run(async () => {
      // First what closes: a port may move from one Service to another.
      for (const [name, service] of services) await this.#closeUnless(name, service);
      for (const [name, service] of services) if (service) await this.#serve(name, service);
    });
  }

  async close(): Promise<void> {
    await this.#serial.idle();
    for (const name of [...this.#open.keys()]) await this.#closeUnless(name, null);
  }

  async #closeUnless(name: ServiceName, service: LocalService | null): Promise<void> {
    const open = this.#open.get(name);
    if (service === null) this.#failing.delete(name);
    if (!open || open.port === service?.port) return;
    this.#open.delete(name);
    await Promise.all(open.servers.map((server) => server.close()));
  }

  async #serve(name: ServiceName, service: LocalService): Promise<void> {
    const open = this.#open.get(name);
    if (open) {
      open.service = service;
      return;
    }
    const servers: HttpService[] = [];
    try {
      for (const host of this.#options.hosts())
        servers.push(await listenHttp({ host, port: service.port }, this.#handler(name)));
      this.#open.set(name, { port: service.port, servers, service });
      this.#failing.delete(name);
    } catch (error) {
      await Promise.all(servers.map((server) => server.close()));
      this.#failing.add(name);
      this.#options.onClash(name);
      this.#options.logger.error(
        { err: error, service: name, port: service.port, event: 'FailedToStartServiceHealthcheck' },
        'the health check node port cannot be opened: load balancers will not find this node healthy for the Service; end the program that has the port',
      );
    }
  }

  /** Any path and method, and the very bytes that kube-proxy answers with: health checks of clouds match on them. */
  #handler(name: ServiceName): RequestListener {
    const [namespace = '', service = ''] = name.split('/');
    return (_request, response) => {
      const count = this.#open.get(name)?.service.localEndpoints ?? 0;
      const healthy = this.#options.proxyHealthy();
      response
        .writeHead(count > 0 && healthy ? 200 : 503, {
          'content-type': 'application/json',
          'x-content-type-options': 'nosniff',
          'x-load-balancing-endpoint-weight': String(count),
        })
        .end(
          `{\n\t"service": {\n\t\t"namespace": ${JSON.stringify(namespace)},\n\t\t"name": ${JSON.stringify(service)}\n\t},\n` +
            `\t"localEndpoints": ${count},\n\t"serviceProxyHealthy": ${healthy}\n}`,
        );
    };
  }
}
