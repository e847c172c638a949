import { nodeName, serviceName } from '@octoplane/model/keys.ts';
import type { EndpointSlice, ObjectMeta, Service, SliceEndpoint } from '@octoplane/model/objects.ts';
import { describe, expect, test } from 'vitest';
import { resolve } from './resolve.ts';
import type { Vantage } from './topology.ts';

const meta: ObjectMeta = { revision: '1', createdAtMs: null, changedAtUs: null, traceparent: null };

const plain: Service = {
  name: serviceName('default', 'web'),
  type: 'ClusterIP',
  clusterIps: ['10.96.0.10'],
  headless: false,
  ipFamilies: ['IPv4'],
  ipFamilyPolicy: 'SingleStack',
  externalIps: [],
  loadBalancerIps: [],
  ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: 0 }],
  allocateNodePorts: true,
  internalTrafficPolicy: 'Cluster',
  externalTrafficPolicy: 'Cluster',
  affinityTimeoutSeconds: 0,
  sourceRanges: [],
  healthCheckNodePort: 0,
  trafficDistribution: null,
  foreignProxy: false,
  meta,
};

type State = 'ready' | 'unready' | 'serving' | 'stopped';

/** `serving`: terminating and still serving; `stopped`: terminating and not serving. */
const conditions: Record<State, Pick<SliceEndpoint, 'ready' | 'serving' | 'terminating'>> = {
  ready: { ready: true, serving: true, terminating: false },
  unready: { ready: false, serving: false, terminating: false },
  serving: { ready: false, serving: true, terminating: true },
  stopped: { ready: false, serving: false, terminating: true },
};

interface EndpointOptions {
  readonly node?: string;
  readonly zone?: string;
  readonly zones?: readonly string[];
  readonly nodes?: readonly string[];
}

function endpoint(ip: string, state: State, options: EndpointOptions = {}): SliceEndpoint {
  return {
    ip,
    ...conditions[state],
    node: options.node === undefined ? null : nodeName(options.node),
    zone: options.zone ?? null,
    zoneHints: options.zones ?? [],
    nodeHints: (options.nodes ?? []).map(nodeName),
  };
}

function sliceOf(endpoints: readonly SliceEndpoint[], overrides: Partial<EndpointSlice> = {}): EndpointSlice {
  return {
    name: 'default/web-1',
    service: plain.name,
    family: 'IPv4',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints,
    headless: false,
    meta,
    ...overrides,
  };
}

const anywhere: Vantage = { zone: null, node: null };
const from = (node: string, zone: string | null = null): Vantage => ({ zone, node: nodeName(node) });

/** "10.244.1.1 C" and so on: Cluster, Local, Terminating, Draining. */
function chosen(service: Service, slices: readonly EndpointSlice[], vantage: Vantage = anywhere): readonly string[] {
  const [entry] = resolve(service, slices, vantage);
  return (entry?.endpoints ?? []).map(({ ip, flags }) => {
    const letters = ['C', 'L', 'T', 'D'].filter((_, bit) => flags & (1 << bit));
    return `${ip} ${letters.join('')}`;
  });
}

const external: Partial<Service> = {
  type: 'NodePort',
  ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: 30_080 }],
};

describe('which Services get entries', () => {
  test.each([
    ['ExternalName (P10)', { type: 'ExternalName', clusterIps: [] }],
    ['headless (P10)', { headless: true, clusterIps: [] }],
    ['of a foreign proxy (P41)', { foreignProxy: true }],
    ['without any frontend', { clusterIps: [] }],
  ] as const)('%s: none', (_, overrides) => {
    expect(resolve({ ...plain, ...overrides }, [sliceOf([endpoint('10.244.1.1', 'ready')])], anywhere)).toEqual([]);
  });

  test('a LoadBalancer Service without node ports is served at its addresses (P8)', () => {
    const service: Service = {
      ...plain,
      type: 'LoadBalancer',
      allocateNodePorts: false,
      loadBalancerIps: ['203.0.113.9'],
    };
    const [entry] = resolve(service, [sliceOf([endpoint('10.244.1.1', 'ready')])], anywhere);
    expect(entry?.spec).toMatchObject({ nodePort: 0, loadBalancerIps: ['203.0.113.9'] });
  });

  test('one entry per port and protocol, with endpoints of the slice port of that name (P2, P3)', () => {
    const service: Service = {
      ...plain,
      ports: [
        { name: 'http', protocol: 'TCP', port: 80, nodePort: 0 },
        { name: 'dns', protocol: 'UDP', port: 80, nodePort: 0 },
      ],
    };
    const slices = [
      sliceOf([endpoint('10.244.1.1', 'ready')]),
      sliceOf([endpoint('10.244.1.2', 'ready')], {
        name: 'default/web-2',
        ports: [
          { name: 'http', protocol: 'TCP', port: 9090 },
          { name: 'dns', protocol: 'UDP', port: 53 },
        ],
      }),
    ];
    expect(
      resolve(service, slices, anywhere).map(({ key, endpoints }) => [
        key,
        endpoints.map(({ ip, port }) => `${ip}:${port}`),
      ]),
    ).toEqual([
      ['default/web:80/TCP', ['10.244.1.1:8080', '10.244.1.2:9090']],
      ['default/web:80/UDP', ['10.244.1.2:53']],
    ]);
  });

  test('headless slices and the other family are left out (P28, P42)', () => {
    const slices = [
      sliceOf([endpoint('10.244.1.1', 'ready')], { headless: true }),
      sliceOf([endpoint('fd00:244:1::1', 'ready')], { name: 'default/web-6', family: 'IPv6' }),
    ];
    const [entry] = resolve(plain, slices, anywhere);
    expect(entry?.endpoints).toEqual([]);
    expect(entry?.spec.usableFamilies).toBe(0);
  });

  test('families are independent (P28)', () => {
    const service: Service = { ...plain, clusterIps: ['10.96.0.10', 'fd00:96::10'] };
    const [entry] = resolve(service, [sliceOf([endpoint('10.244.1.1', 'ready')])], anywhere);
    expect(entry?.spec.usableFamilies).toBe(1);
  });
});

describe('doubles', () => {
  const other = { name: 'default/web-2' };

  test('an address in two slices counts once (P2)', () => {
    const slices = [sliceOf([endpoint('10.244.1.1', 'ready')]), sliceOf([endpoint('10.244.1.1', 'ready')], other)];
    expect(chosen(plain, slices)).toEqual(['10.244.1.1 C']);
  });

  test('the ready one counts, wherever it stands', () => {
    const unready = sliceOf([endpoint('10.244.1.1', 'serving')]);
    const ready = sliceOf([endpoint('10.244.1.1', 'ready')], other);
    expect(chosen(plain, [unready, ready])).toEqual(['10.244.1.1 C']);
    expect(chosen(plain, [ready, unready])).toEqual(['10.244.1.1 C']);
  });
});

describe('readiness', () => {
  test('ready ones are chosen, terminating ones drain, the rest is not sent (P15)', () => {
    const slice = sliceOf([
      endpoint('10.244.1.1', 'ready'),
      endpoint('10.244.1.2', 'unready'),
      endpoint('10.244.1.3', 'serving'),
      endpoint('10.244.1.4', 'stopped'),
    ]);
    expect(chosen(plain, [slice])).toEqual(['10.244.1.1 C', '10.244.1.3 D']);
  });

  test('with none ready, those that terminate and serve are chosen (P16)', () => {
    const slice = sliceOf([
      endpoint('10.244.1.2', 'unready'),
      endpoint('10.244.1.3', 'serving'),
      endpoint('10.244.1.4', 'stopped'),
    ]);
    expect(chosen(plain, [slice])).toEqual(['10.244.1.3 CT']);
    expect(resolve(plain, [slice], anywhere)[0]?.spec.usableFamilies).toBe(1);
  });

  test('Cluster and Local fall back each for itself (P16)', () => {
    const slice = sliceOf([
      endpoint('10.244.1.1', 'serving', { node: 'n1' }),
      endpoint('10.244.2.1', 'ready', { node: 'n2' }),
    ]);
    const service: Service = { ...plain, ...external, externalTrafficPolicy: 'Local' };
    expect(chosen(service, [slice], from('n1'))).toEqual(['10.244.1.1 LT', '10.244.2.1 C']);
    expect(chosen(service, [slice], from('n2'))).toEqual(['10.244.1.1 D', '10.244.2.1 CL']);
  });
});

describe('policies', () => {
  const slice = sliceOf([
    endpoint('10.244.1.1', 'ready', { node: 'n1' }),
    endpoint('10.244.2.1', 'ready', { node: 'n2' }),
  ]);

  test('internal Local alone: the endpoints of the node, and nothing of others (P13)', () => {
    const service: Service = { ...plain, internalTrafficPolicy: 'Local' };
    expect(chosen(service, [slice], from('n1'))).toEqual(['10.244.1.1 L']);
    expect(chosen(service, [slice], from('n3'))).toEqual([]);
    // Others have usable ones: dropped in silence, not rejected.
    expect(resolve(service, [slice], from('n3'))[0]?.spec.usableFamilies).toBe(1);
  });

  test('external Local keeps the Cluster set for the short-circuit from pods (P6)', () => {
    const service: Service = { ...plain, ...external, internalTrafficPolicy: 'Local', externalTrafficPolicy: 'Local' };
    expect(chosen(service, [slice], from('n3'))).toEqual(['10.244.1.1 C', '10.244.2.1 C']);
    expect(chosen(service, [slice], from('n1'))).toEqual(['10.244.1.1 CL', '10.244.2.1 C']);
  });

  test('external Local without an external frontend makes no difference', () => {
    const service: Service = { ...plain, externalTrafficPolicy: 'Local' };
    expect(resolve(service, [slice], from('n1'))).toEqual(resolve(plain, [slice], from('n1')));
  });

  test('a health check node port counts local endpoints before there is any address', () => {
    const service: Service = {
      ...plain,
      type: 'LoadBalancer',
      allocateNodePorts: false,
      externalTrafficPolicy: 'Local',
      healthCheckNodePort: 32_000,
    };
    expect(chosen(service, [slice], from('n1'))).toEqual(['10.244.1.1 CL', '10.244.2.1 C']);
  });
});

describe('topology', () => {
  const hinted = (second: EndpointOptions = { zone: 'b', zones: ['b'] }): EndpointSlice =>
    sliceOf([endpoint('10.244.1.1', 'ready', { zone: 'a', zones: ['a'] }), endpoint('10.244.2.1', 'ready', second)]);

  test('the endpoints hinted for the zone (P17, P18)', () => {
    expect(chosen(plain, [hinted()], { zone: 'a', node: null })).toEqual(['10.244.1.1 C']);
    expect(chosen(plain, [hinted()], { zone: 'b', node: null })).toEqual(['10.244.2.1 C']);
  });

  test.each([
    ['one ready endpoint has no hint', hinted({ zone: 'b' }), 'a'],
    ['no endpoint is hinted for the zone', hinted(), 'c'],
    ['the node has no zone', hinted(), null],
  ])('all of them, when %s (P17)', (_, slice, zone) => {
    expect(chosen(plain, [slice], { zone, node: null })).toEqual(['10.244.1.1 C', '10.244.2.1 C']);
  });

  test('an endpoint that is not ready need not have a hint (P17)', () => {
    const slice = hinted();
    const endpoints = [...slice.endpoints, endpoint('10.244.3.1', 'unready')];
    expect(chosen(plain, [{ ...slice, endpoints }], { zone: 'a', node: null })).toEqual(['10.244.1.1 C']);
  });

  test('the endpoints hinted for the node, otherwise the zone (P19)', () => {
    const slice = sliceOf([
      endpoint('10.244.1.1', 'ready', { node: 'n1', zone: 'a', zones: ['a'], nodes: ['n1'] }),
      endpoint('10.244.2.1', 'ready', { node: 'n2', zone: 'a', zones: ['a'], nodes: ['n2'] }),
      endpoint('10.244.3.1', 'ready', { node: 'n3', zone: 'b', zones: ['b'], nodes: ['n3'] }),
    ]);
    expect(chosen(plain, [slice], from('n1', 'a'))).toEqual(['10.244.1.1 C']);
    expect(chosen(plain, [slice], from('n9', 'a'))).toEqual(['10.244.1.1 C', '10.244.2.1 C']);
    expect(chosen(plain, [slice], from('n9', 'c'))).toHaveLength(3);
  });

  test('Local policies ignore hints (P20)', () => {
    const slice = sliceOf([
      endpoint('10.244.1.1', 'ready', { node: 'n1', zone: 'b', zones: ['b'] }),
      endpoint('10.244.2.1', 'ready', { node: 'n2', zone: 'a', zones: ['a'] }),
    ]);
    const service: Service = { ...plain, ...external, externalTrafficPolicy: 'Local' };
    expect(chosen(service, [slice], from('n1', 'a'))).toEqual(['10.244.1.1 L', '10.244.2.1 C']);
  });

  test('an endpoint that terminates drains where it was in reach', () => {
    const slice = hinted();
    const endpoints = [...slice.endpoints, endpoint('10.244.3.1', 'serving', { zone: 'a' })];
    expect(chosen(plain, [{ ...slice, endpoints }], { zone: 'a', node: null })).toEqual([
      '10.244.1.1 C',
      '10.244.3.1 D',
    ]);
    expect(chosen(plain, [{ ...slice, endpoints }], { zone: 'b', node: null })).toEqual(['10.244.2.1 C']);
  });
});

test('lists are canonical: ascending as text, without doubles, families mixed', () => {
  const service: Service = {
    ...plain,
    clusterIps: ['fd00:96::10', '10.96.0.10'],
    externalIps: ['198.51.100.9', '198.51.100.10', '198.51.100.9'],
  };
  const slices = [
    sliceOf([endpoint('10.244.1.9', 'ready'), endpoint('10.244.1.10', 'ready')]),
    sliceOf([endpoint('fd00:244:1::1', 'ready')], { name: 'default/web-6', family: 'IPv6' }),
  ];
  const [entry] = resolve(service, slices, anywhere);
  expect(entry?.spec.clusterIps).toEqual(['10.96.0.10', 'fd00:96::10']);
  expect(entry?.spec.externalIps).toEqual(['198.51.100.10', '198.51.100.9']);
  expect(entry?.endpoints.map(({ ip }) => ip)).toEqual(['10.244.1.10', '10.244.1.9', 'fd00:244:1::1']);
});
