import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import { arbitraryEntry } from '@octoplane/node/testing/arbitrary.ts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Layout, type LayoutSettings, layoutOf, noLayout } from './layout.ts';
import { planOf } from './plan.ts';
import { visibleEntry } from './visible.ts';

const settings: LayoutSettings = {
  families: ['IPv4', 'IPv6'],
  nodeAddresses: ['172.18.0.1', 'fd00:18::1'],
  scheduler: 'rr',
};

const entry = (key: string, spec: Partial<Entry['spec']>, endpoints: Entry['endpoints'] = []): Entry => ({
  key: key as ServicePortKey,
  spec: {
    clusterIps: [],
    externalIps: [],
    loadBalancerIps: [],
    nodePort: 0,
    internalPolicy: 'Cluster',
    externalPolicy: 'Cluster',
    affinityTimeoutSeconds: 0,
    sourceRanges: [],
    healthCheckNodePort: 0,
    usableFamilies: 1,
    ...spec,
  },
  endpoints,
});

/** As `ipvsadm` and `ipset` would show it. */
function textOf({ services, elements, addresses }: Layout): string[] {
  return [
    ...[...services].map(([text, { destinations, service }]) => {
      const shown = [...destinations.values()].map(
        ({ ip, port, draining }) => `${ip}:${port}${draining ? ' weight 0' : ''}`,
      );
      const persistent = service.persistenceSeconds > 0 ? ` persistent ${service.persistenceSeconds}` : '';
      return `${text} ${service.scheduler}${persistent} -> ${shown.join(', ')}`;
    }),
    ...[...elements.values()].map(({ set, element: { ip, protocol, port, net, comment, mark } }) =>
      [
        `${set.name}: ${ip},${protocol}:${port}`,
        net ? `,${net.ip}/${net.length}` : '',
        ` "${comment}"`,
        mark ? ` ${mark}` : '',
      ].join(''),
    ),
    ...[...addresses].map(([ip, usable]) => `address ${ip}${usable ? ', answers pings' : ''}`),
  ];
}

describe('the layout of an entry', () => {
  it('is a virtual service for each frontend, and its place in the sets', () => {
    const web = entry(
      'default/web:80/TCP',
      { clusterIps: ['10.96.0.10'], loadBalancerIps: ['203.0.113.10'], nodePort: 30_080, affinityTimeoutSeconds: 60 },
      [
        { ip: '10.244.1.10', port: 8080, flags: 1 },
        { ip: '10.244.2.10', port: 8080, flags: 8 },
      ],
    );
    expect(textOf(layoutOf(web, settings, 0))).toMatchInlineSnapshot(`
      [
        "TCP 10.96.0.10 80 rr persistent 60 -> 10.244.1.10:8080, 10.244.2.10:8080 weight 0",
        "TCP 203.0.113.10 80 rr persistent 60 -> 10.244.1.10:8080, 10.244.2.10:8080 weight 0",
        "TCP 172.18.0.1 30080 rr persistent 60 -> 10.244.1.10:8080, 10.244.2.10:8080 weight 0",
        "octo-ipvs-internal-4: 10.96.0.10,TCP:80 "default/web:80/TCP clusterIP Cluster"",
        "octo-ipvs-external-4: 203.0.113.10,TCP:80 "default/web:80/TCP loadBalancerIP Cluster"",
        "octo-ipvs-external-4: 172.18.0.1,TCP:30080 "default/web:80/TCP nodePort Cluster"",
        "address 10.96.0.10, answers pings",
        "address 203.0.113.10, answers pings",
      ]
    `);
  });

  it('of the external Local policy has two: one for everybody, one for the cluster', () => {
    const web = entry('default/web:80/TCP', { loadBalancerIps: ['203.0.113.10'], externalPolicy: 'Local' }, [
      { ip: '10.244.1.10', port: 8080, flags: 3 },
      { ip: '10.244.2.10', port: 8080, flags: 1 },
    ]);
    expect(textOf(layoutOf(web, settings, 77))).toMatchInlineSnapshot(`
      [
        "TCP 203.0.113.10 80 rr -> 10.244.1.10:8080",
        "mark 77 IPv4 rr -> 10.244.1.10:8080, 10.244.2.10:8080",
        "octo-ipvs-near-4: 203.0.113.10,TCP:80 "default/web:80/TCP" 77",
        "octo-ipvs-local-4: 203.0.113.10,TCP:80 "default/web:80/TCP loadBalancerIP Local"",
        "address 203.0.113.10, answers pings",
      ]
    `);
  });

  it('without endpoints has no virtual service, and says whether there are some elsewhere', () => {
    const spec = { clusterIps: ['10.96.0.10', 'fd00:96::10'], internalPolicy: 'Local' } as const;
    expect(textOf(layoutOf(entry('default/web:80/UDP', spec), settings, 0))).toMatchInlineSnapshot(`
      [
        "octo-ipvs-away-4: 10.96.0.10,UDP:80 "default/web:80/UDP"",
        "octo-ipvs-internal-4: 10.96.0.10,UDP:80 "default/web:80/UDP clusterIP Local"",
        "octo-ipvs-none-6: fd00:96::10,UDP:80 "default/web:80/UDP"",
        "octo-ipvs-internal-6: fd00:96::10,UDP:80 "default/web:80/UDP clusterIP Local"",
        "address 10.96.0.10, answers pings",
        "address fd00:96::10",
      ]
    `);
  });

  it('of source ranges admits the node by the address at which its connections begin, and everybody in two halves', () => {
    const spec = { loadBalancerIps: ['203.0.113.10'], sourceRanges: ['0.0.0.0/0', '172.18.0.0/24'] };
    expect(textOf(layoutOf(entry('default/web:80/TCP', spec), settings, 0))).toMatchInlineSnapshot(`
      [
        "octo-ipvs-sources-4: 203.0.113.10,TCP:80,0.0.0.0/1 "0.0.0.0/0"",
        "octo-ipvs-ranged-4: 203.0.113.10,TCP:80 "default/web:80/TCP"",
        "octo-ipvs-sources-4: 203.0.113.10,TCP:80,128.0.0.0/1 "0.0.0.0/0"",
        "octo-ipvs-sources-4: 203.0.113.10,TCP:80,203.0.113.10/32 "this node"",
        "octo-ipvs-away-4: 203.0.113.10,TCP:80 "default/web:80/TCP"",
        "octo-ipvs-external-4: 203.0.113.10,TCP:80 "default/web:80/TCP loadBalancerIP Cluster"",
        "address 203.0.113.10, answers pings",
      ]
    `);
  });

  it('of what is visible of an entry is that of the entry, but for what is draining', () => {
    fc.assert(
      fc.property(fc.nat(5).chain(arbitraryEntry), (drawn) => {
        const visible = visibleEntry(drawn, settings);
        const kept = { ...drawn, endpoints: drawn.endpoints.filter(({ flags }) => flags !== 8) };
        if (visible === null) expect(layoutOf(drawn, settings, 7)).toEqual(noLayout);
        else expect(textOf(layoutOf(visible, settings, 7))).toEqual(textOf(layoutOf(kept, settings, 7)));
      }),
    );
  });
});

describe('a plan', () => {
  const change = (before: Entry | null, after: Entry | null) => ({
    key: (after ?? before ?? entry('default/web:80/TCP', {})).key,
    before: before ? layoutOf(before, settings, 7) : noLayout,
    after: after ? layoutOf(after, settings, 7) : noLayout,
  });
  const endpoint = { ip: '10.244.1.10', port: 8080, flags: 3 };
  const other = { ip: '10.244.2.10', port: 8080, flags: 3 };

  it('from a layout to itself is empty', () => {
    fc.assert(
      fc.property(fc.nat(5).chain(arbitraryEntry), (drawn) => {
        expect(Object.values(planOf([change(drawn, drawn)])).flat()).toEqual([]);
      }),
    );
  });

  it('for one endpoint is that endpoint, and nothing else', () => {
    const web = entry('default/web:80/TCP', { clusterIps: ['10.96.0.10'] }, [endpoint]);
    const plan = planOf([change(web, { ...web, endpoints: [endpoint, other] })]);
    expect(Object.values(plan).flat()).toHaveLength(1);
    expect(plan.openDestinations).toMatchObject([{ destination: { ip: other.ip, port: other.port } }]);
  });

  it.each([
    ['TCP', 0, 'drain'],
    ['SCTP', 0, 'drain'],
    ['UDP', 0, 'now'],
    ['UDP', 8, 'drain'],
  ] as const)('says farewell to an endpoint as its protocol needs it: %s, flags %i: %s', (protocol, flags, how) => {
    const web = entry(`default/web:80/${protocol}`, { clusterIps: ['10.96.0.10'] }, [endpoint, other]);
    const left = flags === 0 ? [endpoint] : [endpoint, { ...other, flags }];
    expect(planOf([change(web, { ...web, endpoints: left })]).closeDestinations).toMatchObject([{ how }]);
  });

  it('does not count on a service that took no connections, and leaves one that takes none any more to its old ones', () => {
    const web = (flags: number) =>
      entry('default/web:80/UDP', { clusterIps: ['10.96.0.10'] }, [{ ...endpoint, flags }]);
    expect(planOf([change(web(3), web(8))])).toMatchObject({ newServices: [], retired: [{ how: 'drain' }] });
    expect(planOf([change(web(8), web(3))])).toMatchObject({ newServices: [{}], openDestinations: [], retired: [] });
    expect(planOf([change(web(8), entry('default/web:80/UDP', {}))])).toMatchObject({ retired: [{ how: 'now' }] });
    expect(planOf([change(null, web(8))])).toMatchObject({ newServices: [], openDestinations: [], retired: [] });
  });

  it('lets a frontend pass from one entry to another', () => {
    const before = entry('default/old:80/TCP', { clusterIps: ['10.96.0.10'] }, [endpoint]);
    const after = entry('default/new:80/TCP', { clusterIps: ['10.96.0.10'] }, [other]);
    for (const changes of [
      [change(before, null), change(null, after)],
      [change(null, after), change(before, null)],
    ]) {
      const plan = planOf(changes);
      expect(plan.retired).toEqual([]);
      expect(plan.removeElements).toEqual([]);
      expect(plan.newServices).toHaveLength(1);
      expect(plan.addElements.map(({ element }) => element.comment)).toEqual(['default/new:80/TCP clusterIP Cluster']);
    }
  });
});
