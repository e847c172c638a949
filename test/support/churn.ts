import { nodeName, type Protocol, serviceName } from '@octoplane/model/keys.ts';
import type {
  ClusterObject,
  EndpointSlice,
  Node,
  ObjectMeta,
  Service,
  SliceEndpoint,
} from '@octoplane/model/objects.ts';
import { idOf, type ObjectId } from '@octoplane/model/project.ts';
import fc from 'fast-check';
import type { SourceEvent } from '../../services/controller/sources/source.ts';

/**
 * Arbitrary objects and rounds of events over few names, so that they meet: Services contest addresses, slices double each other's
 * endpoints, nodes change their zones, hints are half there.
 */
const pick = <const T>(...values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);

export const zones = ['zone-a', 'zone-b'] as const;
export const nodeNames = ['n1', 'n2', 'n3', 'n4'].map(nodeName);
const serviceNames = ['default/a', 'default/b', 'default/c', 'other/a'].map((name) => {
  const [namespace = '', rest = ''] = name.split('/');
  return serviceName(namespace, rest);
});

const zone = fc.option(pick(...zones), { freq: 4 });
const node = fc.option(pick(...nodeNames), { freq: 8 });

const meta: fc.Arbitrary<ObjectMeta> = fc.record({
  revision: fc.constant('1'),
  createdAtMs: fc.option(fc.integer({ min: 1, max: 3 })),
  changedAtUs: fc.constant(null),
  traceparent: fc.constant(null),
});

const servicePorts = fc.subarray(
  [
    { name: 'http', protocol: 'TCP' as Protocol, port: 80 },
    { name: 'dns', protocol: 'UDP' as Protocol, port: 53 },
  ],
  { minLength: 1 },
);

const policy = pick('Cluster', 'Local');

export const service: fc.Arbitrary<Service> = fc
  .record({
    name: pick(...serviceNames),
    type: pick('ClusterIP', 'ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'),
    clusterIps: fc.subarray(['10.96.0.1', 'fd00:96::1']),
    own: fc.boolean(),
    headlessLabel: fc.integer({ min: 0, max: 9 }),
    ipFamilyPolicy: pick('SingleStack', 'PreferDualStack'),
    externalIps: fc.subarray(['198.51.100.1', '198.51.100.2', '2001:db8:51::1']),
    loadBalancerIps: fc.subarray(['203.0.113.1', '2001:db8:113::1']),
    ports: servicePorts,
    nodePort: pick(0, 30_080, 30_081),
    allocateNodePorts: fc.boolean(),
    internalTrafficPolicy: policy,
    externalTrafficPolicy: policy,
    affinityTimeoutSeconds: pick(0, 10_800),
    meta,
  })
  .map(({ own, headlessLabel, nodePort, ...rest }): Service => {
    const number = serviceNames.indexOf(rest.name) + 10;
    const plain = rest.type === 'ClusterIP' || rest.type === 'ExternalName';
    return {
      ...rest,
      // Most Services name addresses of their own; the others contest the same ones.
      clusterIps: own ? [`10.96.0.${number}`, `fd00:96::${number}`].slice(0, rest.clusterIps.length) : rest.clusterIps,
      headless: headlessLabel === 0,
      foreignProxy: headlessLabel === 1,
      ipFamilies: [],
      loadBalancerIps: rest.type === 'LoadBalancer' ? rest.loadBalancerIps : [],
      ports: rest.ports.map((port, i) => ({ ...port, nodePort: plain || nodePort === 0 ? 0 : nodePort + 10 * i })),
      sourceRanges: [],
      healthCheckNodePort: 0,
      trafficDistribution: null,
    };
  });

const endpoint = (family: 'IPv4' | 'IPv6'): fc.Arbitrary<SliceEndpoint> =>
  fc.record({
    ip: fc.integer({ min: 1, max: 6 }).map((n) => (family === 'IPv4' ? `10.244.1.${n}` : `fd00:244:1::${n}`)),
    ready: fc.boolean(),
    serving: fc.boolean(),
    terminating: fc.boolean(),
    node,
    zone,
    zoneHints: fc.oneof({ weight: 4, arbitrary: fc.subarray([...zones], { minLength: 1 }) }, fc.constant([])),
    nodeHints: fc.oneof({ weight: 2, arbitrary: fc.subarray([...nodeNames], { minLength: 1 }) }, fc.constant([])),
  });

export const slice: fc.Arbitrary<EndpointSlice> = pick('IPv4', 'IPv6').chain((family) =>
  fc.record({
    name: pick('default/a-1', 'default/a-2', 'default/b-1', 'default/b-2', 'default/c-1', 'other/a-1'),
    service: fc.option(pick(...serviceNames), { freq: 9 }),
    family: fc.constant(family),
    ports: fc.subarray([
      { name: 'http', protocol: 'TCP' as const, port: 8080 },
      { name: 'dns', protocol: 'UDP' as const, port: 5353 },
    ]),
    endpoints: fc.array(endpoint(family), { maxLength: 6 }),
    headless: fc.integer({ min: 0, max: 15 }).map((n) => n === 0),
    meta,
  }),
);

export const node_: fc.Arbitrary<Node> = fc.record({
  name: pick(...nodeNames),
  zone,
  addresses: fc.constant([]),
  podCidrs: fc.constant([]),
  leaving: fc.boolean(),
  meta,
});

export const object: fc.Arbitrary<ClusterObject> = fc.oneof(
  { weight: 3, arbitrary: service.map((value): ClusterObject => ({ kind: 'Service', service: value })) },
  { weight: 6, arbitrary: slice.map((value): ClusterObject => ({ kind: 'EndpointSlice', slice: value })) },
  { weight: 2, arbitrary: node_.map((value): ClusterObject => ({ kind: 'Node', node: value })) },
);

/** What happens to a controller, one thing after another. */
export type Step =
  | { readonly t: 'events'; readonly source: string; readonly events: readonly SourceEvent[] }
  | { readonly t: 'register'; readonly node: Node['name']; readonly zone: string | null }
  | { readonly t: 'forget'; readonly node: Node['name'] };

const change: fc.Arbitrary<SourceEvent> = fc.oneof(
  { weight: 4, arbitrary: object.map(upsert) },
  { weight: 1, arbitrary: object.map((value): SourceEvent => removal(idOf(value))) },
);

export const steps = (sources: readonly string[]): fc.Arbitrary<readonly Step[]> =>
  fc.array(
    fc.oneof(
      {
        weight: 8,
        arbitrary: fc.record({
          t: fc.constant('events' as const),
          source: pick(...sources),
          events: fc.array(change, { minLength: 1, maxLength: 5 }),
        }),
      },
      { weight: 1, arbitrary: fc.record({ t: fc.constant('register' as const), node: pick(...nodeNames), zone }) },
      { weight: 1, arbitrary: fc.record({ t: fc.constant('forget' as const), node: pick(...nodeNames) }) },
    ),
    { maxLength: 60, size: 'max' },
  );

export function upsert(value: ClusterObject): SourceEvent {
  return { t: 'upserted', object: value, observedAtUs: 1 };
}

export function removal(id: ObjectId): SourceEvent {
  return { t: 'removed', id, revision: '1', changedAtUs: null, observedAtUs: 1 };
}

export const synced = (revision = 1): SourceEvent => ({ t: 'synced', incarnation: 'test', revision, observedAtUs: 1 });
