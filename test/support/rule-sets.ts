import { serviceName, servicePortKey } from '@octoplane/model/keys.ts';
import {
  compareEndpoints,
  type Endpoint,
  type Entry,
  endpointFlags,
  type RuleSet,
  type ServicePortSpec,
} from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';

/** Arbitrary rule sets in canonical form, over few names, so that two of them have much in common. */
const ascending = (values: readonly string[]): fc.Arbitrary<readonly string[]> =>
  fc.subarray([...values]).map((list) => list.sort());

const key = fc
  .tuple(fc.constantFrom('a', 'b', 'c'), fc.constantFrom(53, 80), fc.constantFrom('TCP' as const, 'UDP' as const))
  .map(([name, port, protocol]) => servicePortKey(serviceName('default', name), port, protocol));

export const spec: fc.Arbitrary<ServicePortSpec> = fc.record({
  clusterIps: ascending(['10.96.0.1', '10.96.0.2', 'fd00:96::1']),
  externalIps: ascending(['198.51.100.1', '2001:db8:51::1']),
  loadBalancerIps: ascending(['203.0.113.1', '2001:db8:113::1']),
  nodePort: fc.constantFrom(0, 30_080),
  internalPolicy: fc.constantFrom('Cluster', 'Local'),
  externalPolicy: fc.constantFrom('Cluster', 'Local'),
  affinityTimeoutSeconds: fc.constantFrom(0, 10_800),
  sourceRanges: ascending(['192.0.2.0/24', '2001:db8::/32']),
  healthCheckNodePort: fc.constantFrom(0, 32_000),
  usableFamilies: fc.integer({ min: 0, max: 3 }),
});

const { cluster, local, terminating, draining } = endpointFlags;

export const endpoint: fc.Arbitrary<Endpoint> = fc.record({
  ip: fc.constantFrom('10.244.1.1', '10.244.1.2', '10.244.1.10', 'fd00:244:1::1', 'fd00:244:1::2'),
  port: fc.constantFrom(80, 8080),
  flags: fc.constantFrom(cluster, local, cluster | local, cluster | terminating, local | terminating, draining),
});

export const endpoints: fc.Arbitrary<readonly Endpoint[]> = fc
  .uniqueArray(endpoint, { selector: ({ ip, port }) => `${ip} ${port}`, maxLength: 8 })
  .map((list) => list.sort(compareEndpoints));

export const ruleSet: fc.Arbitrary<RuleSet> = fc
  .uniqueArray(fc.record({ key, spec, endpoints }), { selector: (entry) => entry.key, maxLength: 8 })
  .map((entries: readonly Entry[]): RuleSet => new Map(entries.map((entry) => [entry.key, entry])));
