import { once } from 'node:events';
import { changesBetween } from '@octoplane/model/delta.ts';
import { type ServicePortKey, serviceName, servicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, emptyRuleSet } from '@octoplane/model/rule-set.ts';
import type { DriverName, DriverOptions } from '@octoplane/node/drivers/driver.ts';
import { driverRegistry } from '@octoplane/node/drivers/registry.ts';
import { silentLogger } from '@octoplane/node/testing/logger.ts';

/** One driver of one node, with the services of the benchmark, until its stdin ends. Its argument is a Setting in JSON. */
export interface Setting {
  readonly driver: DriverName;
  readonly services: number;
  readonly endpointsEach: number;
  readonly served: readonly {
    name: string;
    ip: string;
    protocol: 'TCP' | 'UDP';
    port: number;
    backend: string;
    target: number;
  }[];
  readonly options: Pick<DriverOptions, 'cgroupPath' | 'bpfFsPath' | 'stateDir'>;
}

const setting = JSON.parse(process.argv[2] ?? '') as Setting;
const module = await driverRegistry.get(setting.driver)?.();
if (!module) throw new Error(`no driver ${setting.driver}`);
const driver = await module.open({
  ...setting.options,
  logger: silentLogger,
  clusterCidrs: [],
  masqueradeAll: false,
  masqueradeBit: 14,
  nodePortAddresses: { t: 'all' },
  nodeAddresses: [],
  icmp: 'reply',
  dropInvalid: false,
});
await driver.dump();
const wanted = new Map(entries().map((entry) => [entry.key, entry]));
const changes = [...changesBetween(emptyRuleSet, wanted)];
const start = performance.now();
await driver.apply(changes);
const appliedMs = performance.now() - start;
const wrong = await driver.readBack(changes);
const readBackMs = performance.now() - start - appliedMs;
if (wrong.length > 0) throw new Error(`${wrong[0]?.key}: ${wrong[0]?.message}`);
await driver.prune(wanted);
process.stdout.write(`${JSON.stringify({ appliedMs, readBackMs })}\n`);
process.stdin.resume();
await once(process.stdin, 'end');
await driver.cleanup();
await driver.close();

function entries(): Entry[] {
  const { served, services, endpointsEach } = setting;
  const fillers = Array.from({ length: services - served.length }, (_, i) =>
    entry(
      `filler-${i}`,
      'TCP',
      80,
      `10.${97 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`,
      fillerEndpoints(i, endpointsEach),
    ),
  );
  return [
    ...served.map(({ name, protocol, port, ip, backend, target }) =>
      entry(name, protocol, port, ip, [{ ip: backend, port: target, flags: 1 }]),
    ),
    ...fillers,
  ];
}

function fillerEndpoints(service: number, count: number): Entry['endpoints'] {
  return Array.from({ length: count }, (_, i) => ({ ip: `10.244.${100 + i}.${service % 250}`, port: 8080, flags: 1 }));
}

function entry(name: string, protocol: 'TCP' | 'UDP', port: number, ip: string, endpoints: Entry['endpoints']): Entry {
  const key: ServicePortKey = servicePortKey(serviceName('bench', name), port, protocol);
  return {
    key,
    spec: {
      clusterIps: [ip],
      externalIps: [],
      loadBalancerIps: [],
      nodePort: 0,
      internalPolicy: 'Cluster',
      externalPolicy: 'Cluster',
      affinityTimeoutSeconds: 0,
      sourceRanges: [],
      healthCheckNodePort: 0,
      usableFamilies: 1,
    },
    endpoints,
  };
}
