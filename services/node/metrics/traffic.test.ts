import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { expect, it } from 'vitest';
import type { ServiceTraffic } from '../drivers/driver.ts';
import { Metrics } from './metrics.ts';
import { most, trafficMetrics } from './traffic.ts';

const counts = { connections: 3, packetsTo: 0, bytesTo: 0, packetsFrom: 0, bytesFrom: 0 };
const service = (n: number, endpoints: number, more = {}): ServiceTraffic => ({
  key: `default/svc-${n}:80/TCP` as ServicePortKey,
  counts: { ...counts, ...more },
  endpoints: Array.from({ length: endpoints }, (_, i) => ({
    ip: i % 2 ? `fd00::${i}` : `10.1.0.${i}`,
    port: 8080,
    counts: { ...counts, ...more },
  })),
});

async function scrape(traffic: () => readonly ServiceTraffic[]): Promise<string[]> {
  const metrics = new Metrics();
  trafficMetrics(metrics, { traffic });
  return (await metrics.text()).text.split('\n').filter((line) => line.startsWith('octoplane_'));
}

it('exports what each service port and endpoint was given, and packets only where there are any', async () => {
  const lines = await scrape(() => [
    service(1, 2),
    service(2, 0, { packetsTo: 7, bytesTo: 700, packetsFrom: 5, bytesFrom: 500 }),
  ]);
  expect(lines).toEqual([
    'octoplane_service_connections_total{service="default/svc-1:80/TCP"} 3',
    'octoplane_service_connections_total{service="default/svc-2:80/TCP"} 3',
    'octoplane_service_packets_total{service="default/svc-2:80/TCP",direction="to"} 7',
    'octoplane_service_packets_total{service="default/svc-2:80/TCP",direction="from"} 5',
    'octoplane_service_bytes_total{service="default/svc-2:80/TCP",direction="to"} 700',
    'octoplane_service_bytes_total{service="default/svc-2:80/TCP",direction="from"} 500',
    'octoplane_endpoint_connections_total{service="default/svc-1:80/TCP",endpoint="10.1.0.0:8080"} 3',
    'octoplane_endpoint_connections_total{service="default/svc-1:80/TCP",endpoint="[fd00::1]:8080"} 3',
    'octoplane_traffic_left_out{kind="service"} 0',
    'octoplane_traffic_left_out{kind="endpoint"} 0',
  ]);
});

it('stays small whatever the cluster, and says what it leaves out', async () => {
  const lines = await scrape(() => Array.from({ length: most.services + 5 }, (_, n) => service(n, 4)));
  const of = (name: string) => lines.filter((line) => line.startsWith(name)).length;
  expect(of('octoplane_service_connections_total')).toBe(most.services);
  expect(of('octoplane_endpoint_connections_total')).toBe(most.endpoints);
  expect(lines).toContain('octoplane_traffic_left_out{kind="service"} 5');
  expect(lines).toContain(`octoplane_traffic_left_out{kind="endpoint"} ${(most.services + 5) * 4 - most.endpoints}`);
});

it('shows nothing of what has gone', async () => {
  const metrics = new Metrics();
  let traffic: readonly ServiceTraffic[] = [service(1, 1)];
  trafficMetrics(metrics, { traffic: () => traffic });
  expect((await metrics.text()).text).toContain('svc-1');
  traffic = [];
  expect((await metrics.text()).text).not.toContain('svc-1');
});
