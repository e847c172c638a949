import type { EndpointStatus, ServicePortStatus, ServiceStatus } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { parseServicePortKey, type ServiceName } from '@octoplane/model/keys.ts';
import type { EndpointSlice, Service, ServicePort } from '@octoplane/model/objects.ts';
import type { NodeBook } from '../acks/node-book.ts';
import { covers } from '../acks/node-record.ts';
import type { History } from '../history/history.ts';

/** The cluster state, as the admin service sees it. */
export interface Directory {
  readonly services: ReadonlyMap<ServiceName, Service>;
  slicesOf(service: ServiceName): readonly EndpointSlice[];
  sourceOf(service: ServiceName): string | null;
}

/** How many nodes have each version, for many versions at once. */
export class Coverage {
  readonly total: number;
  readonly #book: NodeBook;
  /** Ascending: how far each node that holds nothing back has come. */
  readonly #covered: number[] = [];
  readonly #refusing: { readonly covers: (sequence: number, service: ServiceName) => boolean }[] = [];

  constructor(book: NodeBook) {
    this.#book = book;
    this.total = this.#book.size;
    for (const record of book.records) {
      if (record.refused)
        this.#refusing.push({ covers: (sequence, service) => covers(record, sequence, keysOfService(service)) });
      else if (record.programmed > 0)
        this.#covered.push(record.owes === null ? Number.POSITIVE_INFINITY : record.owes - 1);
    }
    this.#covered.sort((a, b) => a - b);
  }

  programmed(sequence: number, service: ServiceName): number {
    let low = 0;
    let high = this.#covered.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#covered[middle] ?? 0) < sequence) low = middle + 1;
      else high = middle;
    }
    return this.#covered.length - low + this.#refusing.filter((node) => node.covers(sequence, service)).length;
  }
}

export const keysOfService =
  (service: ServiceName) =>
  (key: string): boolean =>
    parseServicePortKey(key)?.service === service;

export function serviceToProto(
  service: Service,
  {
    directory,
    history,
    coverage,
    detail,
  }: {
    readonly directory: Directory;
    readonly history: History;
    readonly coverage: Coverage;
    /** With every endpoint. */
    readonly detail: boolean;
  },
): ServiceStatus {
  const [namespace = '', name = ''] = service.name.split('/');
  const slices = directory.slicesOf(service.name);
  // Older than the horizon: whoever holds anything that a delta can start from has it.
  const sequence = history.newestOf(service.name) ?? history.oldestBase;
  return {
    source: directory.sourceOf(service.name) ?? '',
    namespace,
    name,
    type: service.type,
    clusterIps: service.headless ? ['None'] : [...service.clusterIps],
    externalIps: [...service.externalIps],
    loadBalancerIps: [...service.loadBalancerIps],
    ports: service.ports.map((port) => portToProto(port, slices, detail)),
    version: { epoch: history.epoch, sequence },
    nodesProgrammed: coverage.programmed(sequence, service.name),
    nodesTotal: coverage.total,
  };
}

function portToProto(port: ServicePort, slices: readonly EndpointSlice[], detail: boolean): ServicePortStatus {
  const endpoints = new Map<string, EndpointStatus>();
  for (const slice of slices) {
    const target = slice.ports.find(({ name, protocol }) => name === port.name && protocol === port.protocol);
    if (!target) continue;
    for (const { ip, ready, serving, terminating, node, zone } of slice.endpoints) {
      const address = ip.includes(':') ? `[${ip}]:${target.port}` : `${ip}:${target.port}`;
      endpoints.set(address, { address, ready, serving, terminating, node: node ?? '', zone: zone ?? '' });
    }
  }
  const all = [...endpoints.values()];
  return {
    name: port.name,
    protocol: port.protocol,
    port: port.port,
    nodePort: port.nodePort,
    endpointsReady: all.filter(({ ready }) => ready).length,
    endpointsTotal: all.length,
    endpoints: detail ? all.sort((a, b) => (a.address < b.address ? -1 : 1)) : [],
  };
}
