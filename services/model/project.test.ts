import { describe, expect, test } from 'vitest';
import { formatPath, formatProblem } from './findings.ts';
import { listItems, type Projection, project } from './project.ts';
import { timestampUs } from './project-meta.ts';

const origin = { revision: '7', changedAtUs: 5 };

type Raw = Record<string, unknown>;

const service = (spec: Raw = {}, metadata: Raw = {}, rest: Raw = {}): Projection =>
  project(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web', ...metadata },
      spec: { clusterIP: '10.96.0.10', ports: [{ name: 'http', port: 80 }], ...spec },
      ...rest,
    },
    origin,
  );

const slice = (overrides: Raw = {}, metadata: Raw = {}): Projection =>
  project(
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' }, ...metadata },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 8080 }],
      endpoints: [{ addresses: ['10.244.1.1'] }],
      ...overrides,
    },
    origin,
  );

const node = (overrides: Raw = {}, metadata: Raw = {}): Projection =>
  project({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-1', ...metadata }, ...overrides }, origin);

function projectedService(projection: Projection) {
  if (projection.t !== 'object' || projection.object.kind !== 'Service') throw new Error(messages(projection).join());
  return projection.object.service;
}

function projectedSlice(projection: Projection) {
  if (projection.t !== 'object' || projection.object.kind !== 'EndpointSlice')
    throw new Error(messages(projection).join());
  return projection.object.slice;
}

function projectedNode(projection: Projection) {
  if (projection.t !== 'object' || projection.object.kind !== 'Node') throw new Error(messages(projection).join());
  return projection.object.node;
}

/** Problems of a refused object, warnings of a good one. */
function messages(projection: Projection): readonly string[] {
  if (projection.t === 'foreign') return [projection.what];
  return (projection.t === 'refused' ? projection.problems : projection.warnings).map(formatProblem);
}

const withPort = (port: Raw): Projection => service({ type: 'NodePort', ports: [{ port: 80, ...port }] });
const withEndpoint = (endpoint: Raw): Projection => slice({ endpoints: [{ addresses: ['10.244.1.1'], ...endpoint }] });
const withAddress = (address: unknown): Projection => slice({ endpoints: [{ addresses: [address] }] });
const withIngress = (ingress: Raw): Projection =>
  service({ type: 'LoadBalancer' }, {}, { status: { loadBalancer: { ingress: [ingress] } } });

describe('refused, that object alone, with its place and what to do', () => {
  test.each([
    ['port 0', withPort({ port: 0 }), 'spec.ports[0].port: 0 is not a port; use a whole number from 1 to 65535'],
    [
      'port 70000',
      withPort({ port: 70_000 }),
      'spec.ports[0].port: 70000 is not a port; use a whole number from 1 to 65535',
    ],
    [
      'a port in quotes',
      withPort({ port: '80' }),
      'spec.ports[0].port: "80" is not a port; use a whole number from 1 to 65535',
    ],
    [
      'half a port',
      withPort({ port: 80.5 }),
      'spec.ports[0].port: 80.5 is not a port; use a whole number from 1 to 65535',
    ],
    [
      'no port number',
      withPort({ port: null }),
      'spec.ports[0].port: the port has no number; write one from 1 to 65535',
    ],
    [
      'protocol FOO',
      withPort({ protocol: 'FOO' }),
      'spec.ports[0].protocol: "FOO" is unknown; use one of TCP, UDP, SCTP',
    ],
    [
      'node port 70000',
      withPort({ nodePort: 70_000 }),
      'spec.ports[0].nodePort: 70000 is not a port; use a whole number from 0 to 65535',
    ],
    [
      'a bad port name',
      withPort({ name: 'HTTP' }),
      'spec.ports[0].name: "HTTP" is not a port\'s name; use lower-case letters, digits and "-"',
    ],
    ['no ports', service({ ports: [] }), 'spec.ports: the Service has no port; name at least one'],
    [
      'ports that are no list',
      service({ ports: 'none' }),
      'spec.ports: "none" stands where a list belongs; write one "- " per item',
    ],
    [
      'a port named twice',
      service({
        ports: [
          { name: 'a', port: 80 },
          { name: 'a', port: 81 },
        ],
      }),
      'spec.ports[1].name: the name "a" is used twice in this Service; give each port its own',
    ],
    [
      '(port, protocol) twice',
      service({
        ports: [
          { name: 'a', port: 80 },
          { name: 'b', port: 80 },
        ],
      }),
      'spec.ports[1].port: the port 80/TCP is used twice in this Service; give each port its own',
    ],
    [
      'a nameless port among several',
      service({ ports: [{ name: 'a', port: 80 }, { port: 81 }] }),
      'spec.ports[1].name: the port has no name; with several ports each needs one',
    ],
    [
      'a type unknown',
      service({ type: 'Magic' }),
      'spec.type: "Magic" is unknown; use one of ClusterIP, NodePort, LoadBalancer, ExternalName',
    ],
    [
      'a name for an address',
      service({ clusterIP: 'web.example' }),
      'spec.clusterIP: "web.example" is not an IP address; use an IPv4 or IPv6 address; names are not resolved',
    ],
    [
      'a loopback cluster IP',
      service({ clusterIP: '127.0.0.1' }),
      'spec.clusterIP: 127.0.0.1 is a loopback address; use an address that other nodes can reach',
    ],
    [
      'two cluster IPs of a family',
      service({ clusterIPs: ['10.96.0.10', '10.96.0.11'] }),
      'spec.clusterIPs: 10.96.0.10, 10.96.0.11 are more than one per family; give one IPv4 and one IPv6 address at most',
    ],
    [
      'a multicast external IP',
      service({ externalIPs: ['224.0.0.5'] }),
      'spec.externalIPs[0]: 224.0.0.5 is a multicast address; use an address that other nodes can reach',
    ],
    [
      'a name as an ingress IP',
      withIngress({ ip: 'lb.example' }),
      'status.loadBalancer.ingress[0].ip: "lb.example" is not an IP address; use an IPv4 or IPv6 address; names are not resolved',
    ],
    [
      'an ipMode unknown',
      withIngress({ ip: '203.0.113.1', ipMode: 'Vip' }),
      'status.loadBalancer.ingress[0].ipMode: "Vip" is unknown; use one of VIP, Proxy',
    ],
    [
      'a bad source range',
      service({ loadBalancerSourceRanges: ['10.0.0.0/33'] }),
      'spec.loadBalancerSourceRanges[0]: "10.0.0.0/33" is not a network; use ADDRESS/LENGTH, such as 192.0.2.0/24',
    ],
    [
      'an affinity of two days',
      service({ sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 172_800 } } }),
      'spec.sessionAffinityConfig.clientIP.timeoutSeconds: 172800 is not a timeout; use a whole number from 1 to 86400',
    ],
    [
      'a headless NodePort Service',
      service({ type: 'NodePort', clusterIP: 'None' }),
      'spec.clusterIP: a NodePort Service cannot be headless; leave clusterIP out, or use type ClusterIP',
    ],
    [
      'a Service without a name',
      service({}, { name: '' }),
      'metadata.name: the object has no name; use lower-case letters, digits and "-"',
    ],
    [
      'an endpoint of the other family',
      withAddress('fd00:244:1::1'),
      'endpoints[0].addresses[0]: fd00:244:1::1 is IPv6 among IPv4 addresses; make an EndpointSlice per family',
    ],
    [
      'a name for an endpoint',
      withAddress('pod.example'),
      'endpoints[0].addresses[0]: "pod.example" is not an IP address; use an IPv4 or IPv6 address; names are not resolved',
    ],
    [
      'a number for an endpoint',
      withAddress(7),
      'endpoints[0].addresses[0]: 7 is not an IP address; use an IPv4 or IPv6 address; names are not resolved',
    ],
    [
      'a loopback endpoint',
      withAddress('127.0.0.1'),
      'endpoints[0].addresses[0]: 127.0.0.1 is a loopback address; use an address that other nodes can reach',
    ],
    [
      'a link-local endpoint',
      withAddress('169.254.1.1'),
      'endpoints[0].addresses[0]: 169.254.1.1 is a link-local address; use an address that other nodes can reach',
    ],
    [
      'an unspecified endpoint',
      withAddress('0.0.0.0'),
      'endpoints[0].addresses[0]: 0.0.0.0 is the unspecified address; use an address that other nodes can reach',
    ],
    [
      'no address',
      slice({ endpoints: [{ addresses: [] }] }),
      'endpoints[0].addresses: the endpoint has 0 addresses; give it 1 to 100',
    ],
    [
      'FQDN',
      slice({ addressType: 'FQDN', endpoints: [{ addresses: ['pod.example'] }] }),
      'addressType: FQDN endpoints have no address to send packets to; use IPv4 or IPv6',
    ],
    [
      'an address type unknown',
      slice({ addressType: 'IP' }),
      'addressType: "IP" is not an address type; use IPv4 or IPv6',
    ],
    [
      'port 0 in a slice',
      slice({ ports: [{ port: 0 }] }),
      'ports[0].port: 0 is not a port; use a whole number from 1 to 65535',
    ],
    [
      'ready as a text',
      withEndpoint({ conditions: { ready: 'yes' } }),
      'endpoints[0].conditions.ready: "yes" is neither true nor false; use true or false, without quotes',
    ],
    [
      'hints that are no list',
      withEndpoint({ hints: { forZones: 'a' } }),
      'endpoints[0].hints.forZones: "a" stands where a list belongs; write one "- " per item',
    ],
    [
      'a bad pod network',
      node({ spec: { podCIDRs: ['10.244.1.0'] } }),
      'spec.podCIDRs[0]: "10.244.1.0" is not a network; use ADDRESS/LENGTH, such as 192.0.2.0/24',
    ],
    [
      'a bad node address',
      node({ status: { addresses: [{ type: 'InternalIP', address: 'node-1' }] } }),
      'status.addresses[0].address: "node-1" is not an IP address; use an IPv4 or IPv6 address; names are not resolved',
    ],
    [
      'a text',
      project('hello', origin),
      'the document is not a mapping; write apiVersion, kind and metadata at its top',
    ],
    [
      'no kind',
      project({ metadata: {} }, origin),
      'kind: the document has no kind; write apiVersion and kind, such as v1 and Service',
    ],
  ])('%s', (_, projection, message) => {
    expect(projection.t).toBe('refused');
    expect(messages(projection)).toEqual([message]);
  });

  test('all that is wrong at once, and whose it is', () => {
    const projection = service({ type: 'Magic', ports: [{ port: 0, protocol: 'FOO' }] });
    expect(messages(projection)).toHaveLength(3);
    expect(projection).toMatchObject({ id: { kind: 'Service', name: 'default/web' } });
    expect(service({}, { name: '' })).toMatchObject({ id: null });
  });

  test('slices beyond the limits of the API', () => {
    const endpoints = Array.from({ length: 1001 }, (_, i) => ({ addresses: [`10.244.${i >> 8}.${i & 255}`] }));
    expect(messages(slice({ endpoints }))).toEqual(['endpoints: there are 1001 endpoints; make a slice per 1000']);
  });
});

describe('Services', () => {
  test('defaults are those of the API', () => {
    expect(projectedService(service())).toMatchObject({
      name: 'default/web',
      type: 'ClusterIP',
      clusterIps: ['10.96.0.10'],
      headless: false,
      ipFamilies: ['IPv4'],
      ports: [{ name: 'http', port: 80, protocol: 'TCP', nodePort: 0 }],
      allocateNodePorts: true,
      internalTrafficPolicy: 'Cluster',
      externalTrafficPolicy: 'Cluster',
      affinityTimeoutSeconds: 0,
      foreignProxy: false,
      meta: { revision: '7', createdAtMs: null, changedAtUs: 5, traceparent: null },
    });
    expect(projectedService(service({ sessionAffinity: 'ClientIP' })).affinityTimeoutSeconds).toBe(10_800);
  });

  test('addresses become canonical', () => {
    const spec = { clusterIPs: ['10.96.0.10', 'FD00:0096:0::A'], loadBalancerSourceRanges: [' 10.1.2.3/8 '] };
    const projected = projectedService(service({ type: 'LoadBalancer', ...spec }));
    expect(projected.clusterIps).toEqual(['10.96.0.10', 'fd00:96::a']);
    expect(projected.sourceRanges).toEqual([{ ip: '10.0.0.0', length: 8 }]);
  });

  test('headless by clusterIP None and by label (P10, P42); of another proxy by label (P41)', () => {
    expect(projectedService(service({ clusterIP: 'None' }))).toMatchObject({ headless: true, clusterIps: [] });
    expect(projectedService(service({}, { labels: { 'service.kubernetes.io/headless': '' } })).headless).toBe(true);
    const labels = { 'service.kubernetes.io/service-proxy-name': 'other' };
    expect(projectedService(service({}, { labels })).foreignProxy).toBe(true);
  });

  test('load balancer addresses by their ipMode (P7); host names are passed over', () => {
    expect(projectedService(withIngress({ ip: '203.0.113.1' })).loadBalancerIps).toEqual(['203.0.113.1']);
    expect(projectedService(withIngress({ ip: '203.0.113.1', ipMode: 'VIP' })).loadBalancerIps).toHaveLength(1);
    expect(projectedService(withIngress({ ip: '203.0.113.1', ipMode: 'Proxy' })).loadBalancerIps).toEqual([]);
    expect(projectedService(withIngress({ hostname: 'lb.example' })).loadBalancerIps).toEqual([]);
  });

  test('a status left over from type LoadBalancer does not count', () => {
    const status = { loadBalancer: { ingress: [{ ip: '203.0.113.1' }] } };
    expect(projectedService(service({}, {}, { status })).loadBalancerIps).toEqual([]);
  });

  test('ExternalName needs no ports', () => {
    expect(projectedService(service({ type: 'ExternalName', externalName: 'x.example', ports: null })).type).toBe(
      'ExternalName',
    );
  });

  test('PreferClose is the older name of PreferSameZone', () => {
    expect(projectedService(service({ trafficDistribution: 'PreferClose' })).trafficDistribution).toBe(
      'PreferSameZone',
    );
    expect(messages(service({ trafficDistribution: 'Nearest' }))).toEqual([
      'spec.trafficDistribution: "Nearest" is unknown and ignored; use PreferSameZone or PreferSameNode',
    ]);
  });

  test('unknown fields are named, and ignored', () => {
    expect(messages(service({ clusterIp: '10.96.0.10' }))).toEqual([
      'spec.clusterIp: the field is unknown and ignored; check its spelling',
    ]);
  });

  test('of other kinds and versions are foreign', () => {
    expect(messages(project({ apiVersion: 'v1', kind: 'ConfigMap' }, origin))).toEqual(['v1 ConfigMap']);
    expect(messages(project({ apiVersion: 'serving.knative.dev/v1', kind: 'Service' }, origin))).toEqual([
      'serving.knative.dev/v1 Service',
    ]);
    expect(project({ apiVersion: 'v1', kind: 'toString' }, origin).t).toBe('foreign');
  });
});

describe('EndpointSlices', () => {
  test.each([
    ['unset', undefined, { ready: true, serving: true, terminating: false }],
    ['ready null', { ready: null }, { ready: true, serving: true, terminating: false }],
    ['not ready', { ready: false }, { ready: false, serving: false, terminating: false }],
    [
      'terminating',
      { ready: false, serving: true, terminating: true },
      { ready: false, serving: true, terminating: true },
    ],
    [
      'published though not ready (P15)',
      { ready: true, serving: false, terminating: true },
      { ready: true, serving: false, terminating: true },
    ],
  ])('conditions: %s', (_, conditions, expected) => {
    expect(projectedSlice(withEndpoint({ conditions })).endpoints[0]).toMatchObject(expected);
  });

  test('hints, node and zone', () => {
    const hints = { forZones: [{ name: 'a' }, { name: 'b' }], forNodes: [{ name: 'node-1' }] };
    expect(projectedSlice(withEndpoint({ nodeName: 'node-1', zone: 'a', hints })).endpoints[0]).toMatchObject({
      node: 'node-1',
      zone: 'a',
      zoneHints: ['a', 'b'],
      nodeHints: ['node-1'],
    });
  });

  test('a slice of no Service is kept as such', () => {
    expect(projectedSlice(slice({}, { labels: {} })).service).toBeNull();
    expect(projectedSlice(slice({ ports: null, endpoints: null }))).toMatchObject({ ports: [], endpoints: [] });
  });

  test('a port without a number is passed over, and said', () => {
    const projection = slice({ ports: [{ name: 'all' }] });
    expect(projectedSlice(projection).ports).toEqual([]);
    expect(messages(projection)).toHaveLength(1);
  });

  test('the trigger time is when it changed, and the trace context is kept when it is one', () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const annotations = {
      'endpoints.kubernetes.io/last-change-trigger-time': '2026-11-23T04:00:00.123456Z',
      'tracing.k8s.io/traceparent': traceparent,
    };
    expect(projectedSlice(slice({}, { annotations })).meta).toMatchObject({
      changedAtUs: Date.UTC(2026, 10, 23, 4) * 1000 + 123_456,
      traceparent,
    });
    const bad = slice({}, { annotations: { 'tracing.k8s.io/traceparent': traceparent.replaceAll(/[1-9a-f]/g, '0') } });
    expect(projectedSlice(bad).meta).toMatchObject({ traceparent: null, hasBadTraceparent: true });
    expect(messages(bad)).toHaveLength(1);
  });
});

describe('Nodes', () => {
  test('zone, addresses, pod networks', () => {
    const projection = node(
      {
        spec: { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24', 'fd00:244:1::/64'] },
        status: {
          addresses: [
            { type: 'Hostname', address: 'node-1' },
            { type: 'InternalIP', address: '172.18.0.1' },
          ],
        },
      },
      { labels: { 'topology.kubernetes.io/zone': 'a' } },
    );
    expect(projectedNode(projection)).toMatchObject({
      zone: 'a',
      addresses: ['172.18.0.1'],
      podCidrs: [
        { ip: '10.244.1.0', length: 24 },
        { ip: 'fd00:244:1::', length: 64 },
      ],
      leaving: false,
    });
  });

  test("leaving by the autoscaler's taint or by deletion (P48)", () => {
    expect(projectedNode(node({ spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler' }] } })).leaving).toBe(true);
    expect(projectedNode(node({}, { deletionTimestamp: '2026-11-23T04:00:00Z' })).leaving).toBe(true);
  });
});

test('lists: v1 List as it is, typed lists with the kind that their items leave out', () => {
  expect(listItems({ apiVersion: 'v1', kind: 'List', items: [1] })).toEqual([1]);
  expect(listItems({ apiVersion: 'v1', kind: 'ServiceList', items: [{ metadata: {} }] })).toEqual([
    { apiVersion: 'v1', kind: 'Service', metadata: {} },
  ]);
  expect(listItems({ apiVersion: 'v1', kind: 'Service' })).toBeNull();
});

test('times keep their microseconds', () => {
  expect(timestampUs('1970-01-01T00:00:01.5Z')).toBe(1_500_000);
  expect(timestampUs('1970-01-01T01:00:00.000001+01:00')).toBe(1);
  expect(timestampUs('yesterday')).toBeNull();
});

test('paths read as people write them', () => {
  expect(formatPath(['spec', 'ports', 0, 'port'])).toBe('spec.ports[0].port');
});
