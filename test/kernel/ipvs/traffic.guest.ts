import type { EntryChange } from '@octoplane/model/delta.ts';
import type { Entry, ServicePortSpec } from '@octoplane/model/rule-set.ts';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { changeOf, entryOf, NodeLab } from './on-node.ts';

const vips = { IPv4: '10.96.0.10', IPv6: 'fd00:96::10' };
const balancers = { IPv4: '203.0.113.10', IPv6: '2001:db8:113::10' };
const externals = { IPv4: '198.51.100.10', IPv6: '2001:db8:51::10' };
const outsideRanges = { IPv4: '172.18.0.250/32', IPv6: 'fd00:18::250/128' };
const foreignRanges = { IPv4: '192.0.2.0/24', IPv6: '2001:db8:2::/64' };
const transports = ['TCP', 'UDP'] as const;
const quick = { timeoutMs: 700 };

describe.each(['IPv4', 'IPv6'] as const)('services over %s', (family) => {
  let node: NodeLab;
  let entries: Entry[] = [];
  const vip = vips[family];
  const balancer = balancers[family];
  const external = externals[family];

  beforeAll(async () => {
    node = await NodeLab.create();
    await node.driver.dump();
    for (const pod of ['pod-1a', 'pod-1b', 'pod-2a'])
      for (const transport of transports) await node.lab.serve(pod, family, 8080, transport);
  });
  afterEach(async () => {
    await node.apply(...entries.map((entry): EntryChange => changeOf(entry, null)));
    entries = [];
  });
  afterAll(() => node[Symbol.asyncDispose]());

  const at = (pod: string, flags = 3) => ({ at: `${node.lab.place(pod).addresses[family]}:8080`, flags });
  const ipOf = (place: string) => node.lab.place(place).addresses[family];

  async function have(key: string, spec: Partial<ServicePortSpec>, endpoints: ReturnType<typeof at>[]): Promise<Entry> {
    const entry = entryOf(key, spec, endpoints);
    await node.apply(changeOf(entries.find((each) => each.key === entry.key) ?? null, entry));
    entries = [...entries.filter((each) => each.key !== entry.key), entry];
    expect(await node.driver.dump()).toEqual(new Map(entries.map((each) => [each.key, node.driver.visible(each)])));
    return entry;
  }

  /** Everybody in `pods` answers, and nobody else. @returns the client addresses that they saw */
  async function reaches(client: string, ip: string, port: number, pods: string[], transport: 'TCP' | 'UDP' = 'TCP') {
    const tally = await node.lab.dialMany(client, ip, port, { transport, until: pods, atLeast: 6, atMost: 20 });
    expect(tally.failures, `${client} to ${ip}`).toEqual([]);
    expect(Object.keys(tally.answers).sort(), `${client} to ${ip}`).toEqual(pods);
    return tally.seenAs;
  }

  it.each(transports)('a ClusterIP is balanced: %s, from pods, the node and outside', async (transport) => {
    await have(`default/web:80/${transport}`, { clusterIps: [vip] }, [at('pod-1a'), at('pod-2a')]);
    const pods = ['pod-1a', 'pod-2a'];
    expect(await reaches('pod-1b', vip, 80, pods, transport)).toEqual([ipOf('pod-1b')]);
    expect(await reaches('node-1', vip, 80, pods, transport)).toEqual([ipOf('node-1')]);
    expect(await reaches('outside', vip, 80, pods, transport)).toEqual([ipOf('node-1')]);
    // Of a pod that reaches itself the address is the node's.
    const seen = new Set(await reaches('pod-1a', vip, 80, pods, transport));
    expect(seen).toEqual(new Set([ipOf('pod-1a'), ipOf('node-1')]));
  });

  it.each(transports)('external addresses and node ports are balanced and masqueraded: %s', async (transport) => {
    const spec = { clusterIps: [vip], loadBalancerIps: [balancer], externalIps: [external], nodePort: 30_080 };
    await have(`default/web:80/${transport}`, spec, [at('pod-1a'), at('pod-2a')]);
    for (const [ip, port] of [
      [balancer, 80],
      [external, 80],
      [ipOf('node-1'), 30_080],
    ] as const) {
      for (const client of ['outside', 'node-1', 'pod-1b'])
        expect(await reaches(client, ip, port, ['pod-1a', 'pod-2a'], transport), client).toEqual([ipOf('node-1')]);
    }
  });

  it.each(transports)('the same port of another protocol is its own affair: %s', async (transport) => {
    await have(`default/web:80/${transport}`, { clusterIps: [vip] }, [at('pod-1a')]);
    const other = transport === 'TCP' ? 'UDP' : 'TCP';
    expect(await node.lab.dial('pod-1b', vip, 80, { transport: other })).toEqual({ t: 'refused' });
    expect(await node.lab.dial('pod-1b', vip, 81, { transport })).toEqual({ t: 'refused' });
    expect(await node.lab.dial('node-1', vip, 81, { transport })).toEqual({ t: 'refused' });
  });

  it.each(transports)('without an endpoint anywhere it rejects: %s', async (transport) => {
    const spec = { clusterIps: [vip], loadBalancerIps: [balancer], externalIps: [external], nodePort: 30_080 };
    await have(`default/web:80/${transport}`, spec, []);
    for (const client of ['pod-1b', 'node-1', 'outside'])
      for (const ip of [vip, balancer, external])
        expect(await node.lab.dial(client, ip, 80, { transport }), `${client} to ${ip}`).toEqual({ t: 'refused' });
    expect(await node.lab.dial('outside', ipOf('node-1'), 30_080, { transport })).toEqual({ t: 'refused' });
  });

  it.each(transports)(
    'the internal policy Local keeps to this node, and drops without an endpoint: %s',
    async (transport) => {
      const spec = { clusterIps: [vip], internalPolicy: 'Local' } as const;
      await have(`default/web:80/${transport}`, spec, [at('pod-1a'), at('pod-2a', 1)]);
      for (const client of ['pod-1b', 'node-1']) await reaches(client, vip, 80, ['pod-1a'], transport);
      await have(`default/web:80/${transport}`, { ...spec, usableFamilies: 3 }, [at('pod-2a', 1)]);
      for (const client of ['pod-1b', 'node-1', 'outside'])
        expect(await node.lab.dial(client, vip, 80, { transport, ...quick }), client).toEqual({ t: 'timedOut' });
    },
  );

  it.each(transports)(
    'the external policy Local keeps the client and this node, but not for the cluster: %s',
    async (transport) => {
      const spec = {
        clusterIps: [vip],
        loadBalancerIps: [balancer],
        nodePort: 30_080,
        externalPolicy: 'Local',
      } as const;
      await have(`default/web:80/${transport}`, spec, [at('pod-1a'), at('pod-2a', 1)]);
      expect(await reaches('outside', balancer, 80, ['pod-1a'], transport)).toEqual([ipOf('outside')]);
      expect(await reaches('outside', ipOf('node-1'), 30_080, ['pod-1a'], transport)).toEqual([ipOf('outside')]);
      for (const client of ['pod-1b', 'node-1']) {
        await reaches(client, balancer, 80, ['pod-1a', 'pod-2a'], transport);
        await reaches(client, ipOf('node-1'), 30_080, ['pod-1a', 'pod-2a'], transport);
      }
      await have(`default/web:80/${transport}`, { ...spec, usableFamilies: 3 }, [at('pod-2a', 1)]);
      expect(await node.lab.dial('outside', balancer, 80, { transport, ...quick })).toEqual({ t: 'timedOut' });
      for (const client of ['pod-1b', 'node-1']) await reaches(client, balancer, 80, ['pod-2a'], transport);
    },
  );

  it('source ranges guard the load balancer address alone', async () => {
    const spec = { clusterIps: [vip], loadBalancerIps: [balancer], nodePort: 30_080 };
    await have('default/web:80/TCP', { ...spec, sourceRanges: [foreignRanges[family]] }, [at('pod-1a')]);
    for (const client of ['outside', 'pod-1b', 'node-1'])
      expect(await node.lab.dial(client, balancer, 80, quick), client).toEqual({ t: 'timedOut' });
    await reaches('outside', vip, 80, ['pod-1a']);
    await reaches('outside', ipOf('node-1'), 30_080, ['pod-1a']);
    await have('default/web:80/TCP', { ...spec, sourceRanges: [foreignRanges[family], outsideRanges[family]].sort() }, [
      at('pod-1a'),
    ]);
    await reaches('outside', balancer, 80, ['pod-1a']);
    expect(await node.lab.dial('node-1', balancer, 80, quick)).toEqual({ t: 'timedOut' });
    const everybody = family === 'IPv4' ? '0.0.0.0/0' : '::/0';
    await have('default/web:80/TCP', { ...spec, sourceRanges: [everybody] }, [at('pod-1a')]);
    for (const client of ['outside', 'pod-1b', 'node-1']) await reaches(client, balancer, 80, ['pod-1a']);
  });

  it('with client-IP affinity a client stays, until its endpoint is gone or affinity is', async () => {
    const spec = { clusterIps: [vip], affinityTimeoutSeconds: 10_800 };
    const entry = await have('default/web:80/TCP', spec, [at('pod-1a'), at('pod-2a')]);
    const first = await node.lab.dialMany('pod-1b', vip, 80, { until: [], atLeast: 8, atMost: 8 });
    const [chosen = ''] = Object.keys(first.answers);
    expect(first.answers).toEqual({ [chosen]: 8 });
    const other = chosen === 'pod-1a' ? 'pod-2a' : 'pod-1a';
    await have('default/web:80/TCP', spec, [at(other)]);
    await reaches('pod-1b', vip, 80, [other]);
    await have('default/web:80/TCP', { ...entry.spec, affinityTimeoutSeconds: 0 }, [at('pod-1a'), at('pod-2a')]);
    await reaches('pod-1b', vip, 80, ['pod-1a', 'pod-2a']);
    await have('default/web:80/TCP', entry.spec, [at('pod-1a'), at('pod-2a')]);
    const last = await node.lab.dialMany('pod-1b', vip, 80, { until: [], atLeast: 8, atMost: 8 });
    expect(Object.keys(last.answers)).toHaveLength(1);
  });

  it('a ping is answered while there is a usable endpoint', async () => {
    await have('default/web:80/TCP', { clusterIps: [vip], loadBalancerIps: [balancer] }, [at('pod-1a')]);
    for (const client of ['pod-1b', 'node-1', 'outside'])
      expect(await node.lab.ping(client, vip), client).toEqual({ t: 'replied' });
    await have('default/web:80/TCP', { clusterIps: [vip], loadBalancerIps: [balancer] }, []);
    for (const client of ['pod-1b', 'node-1', 'outside'])
      expect(await node.lab.ping(client, vip), client).toMatchObject({ t: 'unreachable' });
  });
});
