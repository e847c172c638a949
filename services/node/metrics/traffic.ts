import { isIPv6 } from 'node:net';
import { Counter } from 'prom-client';
import type { Counts, Driver } from '../drivers/driver.ts';
import type { Metrics } from './metrics.ts';

/**
 * What is exported at most, because a node's scrape must stay small whatever the cluster: the oldest service ports, and the
 * endpoints of the oldest ones. octoplane_traffic_left_out counts the others; `/explain` knows no such limit.
 */
export const most = { services: 1000, endpoints: 2000 } as const;

/** Connections, packets and bytes by service port and by endpoint, where the driver counts them. Read at every scrape. */
export function trafficMetrics(metrics: Metrics, driver: Pick<Driver, 'traffic'>): void {
  if (driver.traffic === undefined) return;
  const read = () => {
    const traffic = driver.traffic?.() ?? [];
    const endpoints = traffic.flatMap(({ key, endpoints: own }) =>
      own.map(({ ip, port, counts }) => ({
        labels: { service: key, endpoint: isIPv6(ip) ? `[${ip}]:${port}` : `${ip}:${port}` },
        counts,
      })),
    );
    services.show(traffic.slice(0, most.services).map(({ key, counts }) => ({ labels: { service: key }, counts })));
    endpointSeries.show(endpoints.slice(0, most.endpoints));
    leftOut.set({ kind: 'service' }, Math.max(0, traffic.length - most.services));
    leftOut.set({ kind: 'endpoint' }, Math.max(0, endpoints.length - most.endpoints));
  };
  // A registry collects in the order of registration: the first series reads for all of them.
  const services = new TrafficSeries(metrics, 'service', ['service'], read);
  const endpointSeries = new TrafficSeries(metrics, 'endpoint', ['service', 'endpoint'], () => undefined);
  const leftOut = metrics.gauge(
    'octoplane_traffic_left_out',
    'Service ports and endpoints whose traffic is not exported, because there are too many',
    ['kind'],
  );
}

type Label = 'service' | 'endpoint' | 'direction';

interface Item {
  readonly labels: Partial<Record<Label, string>>;
  readonly counts: Counts;
}

class TrafficSeries {
  readonly #connections: Counter<Label>;
  readonly #packets: Counter<Label>;
  readonly #bytes: Counter<Label>;

  constructor(metrics: Metrics, of: 'service' | 'endpoint', labels: readonly Label[], collect: () => void) {
    const registers = [metrics.registry];
    this.#connections = new Counter({
      name: `octoplane_${of}_connections_total`,
      help: `Connections given, by ${of}; of UDP, sockets and flows`,
      labelNames: [...labels],
      registers,
      collect,
    });
    const directed = [...labels, 'direction' as const];
    this.#packets = new Counter({
      name: `octoplane_${of}_packets_total`,
      help: `Packets that were translated on their way, by ${of}; those of sockets on the node are not`,
      labelNames: directed,
      registers,
    });
    this.#bytes = new Counter({
      name: `octoplane_${of}_bytes_total`,
      help: `Bytes of these packets from the IP header on, by ${of}`,
      labelNames: directed,
      registers,
    });
  }

  show(items: readonly Item[]): void {
    for (const counter of [this.#connections, this.#packets, this.#bytes]) counter.reset();
    for (const { labels, counts } of items) {
      this.#connections.inc(labels, counts.connections);
      this.#direction({ ...labels, direction: 'to' }, counts.packetsTo, counts.bytesTo);
      this.#direction({ ...labels, direction: 'from' }, counts.packetsFrom, counts.bytesFrom);
    }
  }

  /** Most services have no packets here, and need no series that says so. */
  #direction(labels: Item['labels'], packets: number, bytes: number): void {
    if (packets === 0) return;
    this.#packets.inc(labels, packets);
    this.#bytes.inc(labels, bytes);
  }
}
