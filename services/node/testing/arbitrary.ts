import type { Ip } from '@octoplane/model/address.ts';
import { familyOf } from '@octoplane/model/address.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import {
  compareEndpoints,
  type Endpoint,
  type Entry,
  endpointFlags,
  familyBit,
  type RuleSet,
} from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';

/** Rule sets as controllers send them, from few services and few addresses, so that random ones collide often. */

const services = 6;
const { cluster, local, terminating, draining } = endpointFlags;

const flags = fc.constantFrom(cluster, local, cluster | local, cluster | terminating, local | terminating, draining);

const endpointIp: fc.Arbitrary<Ip> = fc
  .tuple(fc.boolean(), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 4 }))
  .map(([v4, node, host]) => (v4 ? `10.244.${node}.${host}` : `fd00:244:${node}::${host}`));

const endpoints: fc.Arbitrary<readonly Endpoint[]> = fc
  .uniqueArray(fc.record({ ip: endpointIp, port: fc.constantFrom(80, 8080), flags }), {
    maxLength: 6,
    selector: ({ ip, port }) => `${ip} ${port}`,
  })
  .map((list) => list.toSorted(compareEndpoints));

const shape = fc.record({
  endpoints,
  affinityTimeoutSeconds: fc.constantFrom(0, 0, 0, 10_800),
  nodePort: fc.boolean(),
  external: fc.boolean(),
  loadBalancer: fc.boolean(),
  internalPolicy: fc.constantFrom('Cluster' as const, 'Cluster' as const, 'Local' as const),
  externalPolicy: fc.constantFrom('Cluster' as const, 'Cluster' as const, 'Local' as const),
  sourceRanges: fc.constantFrom<readonly string[]>([], ['10.0.0.0/8', '172.18.0.0/24']),
});

/** Service port number `index`; frontends do not overlap between indexes. */
export const arbitraryEntry = (index: number): fc.Arbitrary<Entry> =>
  shape.map((drawn): Entry => {
    const protocol = (['TCP', 'UDP', 'SCTP'] as const)[index % 3] ?? 'TCP';
    let usableFamilies = 0;
    for (const { ip } of drawn.endpoints) usableFamilies |= familyBit(familyOf(ip));
    return {
      key: `default/web-${index}:80/${protocol}` as ServicePortKey,
      spec: {
        clusterIps: [`10.96.0.${index + 1}`, `fd00:96::${index + 1}`],
        externalIps: drawn.external ? [`198.51.100.${index + 1}`] : [],
        loadBalancerIps: drawn.loadBalancer ? [`203.0.113.${index + 1}`] : [],
        nodePort: drawn.nodePort ? 30_000 + index : 0,
        internalPolicy: drawn.internalPolicy,
        externalPolicy: drawn.externalPolicy,
        affinityTimeoutSeconds: drawn.affinityTimeoutSeconds,
        sourceRanges: drawn.sourceRanges,
        healthCheckNodePort: drawn.externalPolicy === 'Local' && drawn.loadBalancer ? 31_000 + index : 0,
        usableFamilies,
      },
      endpoints: drawn.endpoints,
    };
  });

export const arbitraryRuleSet: fc.Arbitrary<RuleSet> = fc
  .tuple(...Array.from({ length: services }, (_, index) => fc.option(arbitraryEntry(index))))
  .map(
    (entries) => new Map(entries.flatMap((entry): [ServicePortKey, Entry][] => (entry ? [[entry.key, entry]] : []))),
  );
