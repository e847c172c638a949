import { readdirSync, writeFileSync } from 'node:fs';
import type { Ip } from '@octoplane/model/address.ts';
import { type Family, type ServicePortKey, serviceName, servicePortKey } from '@octoplane/model/keys.ts';
import {
  compareEndpoints,
  type Endpoint,
  type Entry,
  endpointFlags,
  familyBit,
  type ServicePortSpec,
} from '@octoplane/model/rule-set.ts';
import type { Driver } from '@octoplane/node/drivers/driver.ts';
import { nftables } from '@octoplane/node/drivers/nftables/module.ts';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { feed, run } from '../../contract/namespace.ts';
import { contractOptions } from '../../contract/options.ts';
import { Lab } from '../../support/lab/lab.ts';

/** What packets meet, on a real node: the driver runs in the network of node-1, through which the client outside is routed. */
const { cluster, local } = endpointFlags;
const vips = { IPv4: '10.96.0.10', IPv6: 'fd00:96::a' } as const;
const balancers = { IPv4: '203.0.113.10', IPv6: '2001:db8:113::a' } as const;
const pods = ['pod-1a', 'pod-1b', 'pod-2a'] as const;
const key = servicePortKey(serviceName('default', 'web'), 80, 'TCP');

describe('nftables, as packets meet it', () => {
  let lab: Lab;
  const options = contractOptions();
  beforeAll(async () => {
    lab = await Lab.create({ nodes: 2, podsPerNode: 2 });
    // A pod that reaches itself goes back to where it came from, so the kernel sends it redirects, and counts them against the ICMP
    // errors that it may send it in the next second: a rejection would then be silent.
    lab.within('node-1', () => {
      const devices = '/proc/sys/net/ipv4/conf';
      for (const device of readdirSync(devices)) writeFileSync(`${devices}/${device}/send_redirects`, '0');
    });
    for (const family of ['IPv4', 'IPv6'] as const) {
      for (const pod of pods) {
        for (const transport of ['TCP', 'UDP'] as const) await lab.serve(pod, family, 8080, transport);
      }
    }
  });
  afterAll(async () => {
    await lab.stopServing();
    await lab[Symbol.asyncDispose]();
    options[Symbol.dispose]();
  });

  describe.each(['IPv4', 'IPv6'] as const)('%s', (family) => {
    let driver: Driver;
    let held: ReadonlyMap<ServicePortKey, Entry>;
    const ip = (place: string): Ip => lab.place(place).addresses[family];
    const vip = vips[family];
    const balancer = balancers[family];
    const endpoint = (pod: string, flags: number = cluster): Endpoint => ({ ip: ip(pod), port: 8080, flags });
    const entryOf = (
      endpoints: readonly Endpoint[],
      spec: Partial<ServicePortSpec> = {},
      at: ServicePortKey = key,
    ): Entry => ({
      key: at,
      spec: { ...plainSpec(family), usableFamilies: endpoints.length > 0 ? familyBit(family) : 0, ...spec },
      endpoints: [...endpoints].sort(compareEndpoints),
    });

    async function hold(...entries: readonly Entry[]): Promise<void> {
      const wanted = new Map(entries.map((entry) => [entry.key, entry]));
      const keys = new Set([...held.keys(), ...wanted.keys()]);
      const changes = [...keys].map((each) => ({
        key: each,
        before: held.get(each) ?? null,
        after: wanted.get(each) ?? null,
      }));
      await driver.apply(changes);
      expect(await driver.readBack(changes)).toEqual([]);
      held = wanted;
    }

    beforeEach(async () => {
      held = new Map();
      driver = await lab.within('node-1', () =>
        nftables.open({ ...options, nodeAddresses: [lab.place('node-1').addresses[family]] }),
      );
      await driver.dump();
      await lab.within('node-1', () => driver.prune(held));
    });
    afterEach(async () => {
      await driver.cleanup();
      await driver.close();
    });

    const reaches = (at: string, to: Ip, port: number, names: readonly string[], transport: 'TCP' | 'UDP' = 'TCP') =>
      lab.dialMany(at, to, port, { transport, until: names, atLeast: 12, atMost: 200 });

    it('spreads a cluster IP over its endpoints, source kept for pods and masqueraded for others', async () => {
      await hold(entryOf(pods.map((pod) => endpoint(pod))));
      for (const from of ['pod-1a', 'node-1', 'outside']) {
        const tally = await reaches(from, vip, 80, pods);
        expect(tally.failures, from).toEqual([]);
        expect(Object.keys(tally.answers).sort(), from).toEqual([...pods]);
      }
      await hold(entryOf([endpoint('pod-2a')]));
      expect(await lab.dial('pod-1a', vip, 80)).toMatchObject({ by: 'pod-2a', seenAs: { ip: ip('pod-1a') } });
      expect(await lab.dial('outside', vip, 80)).toMatchObject({ by: 'pod-2a', seenAs: { ip: ip('node-1') } });
    });

    it('keeps protocols apart', async () => {
      const udp = servicePortKey(serviceName('default', 'web'), 80, 'UDP');
      const from = 'pod-1b';
      await hold(entryOf([endpoint('pod-1a')]), entryOf([endpoint('pod-2a')], {}, udp));
      expect(await lab.dial(from, vip, 80)).toMatchObject({ by: 'pod-1a' });
      expect(await lab.dial(from, vip, 80, { transport: 'UDP' })).toMatchObject({ by: 'pod-2a' });
      await hold(entryOf([], {}, udp), entryOf([endpoint('pod-1a')]));
      expect(await lab.dial(from, vip, 80)).toMatchObject({ by: 'pod-1a' });
      expect(await lab.dial(from, vip, 80, { transport: 'UDP' })).toEqual({ t: 'refused' });
    });

    it('carries SCTP', async () => {
      await lab.serve('pod-2a', family, 8080, 'SCTP');
      await hold(entryOf([endpoint('pod-2a')], {}, servicePortKey(serviceName('default', 'web'), 80, 'SCTP')));
      expect(await lab.dial('pod-1b', vip, 80, { transport: 'SCTP' })).toMatchObject({ by: 'pod-2a' });
    });

    it('rejects without endpoints, drops where others have some, rejects other ports of a cluster IP', async () => {
      await hold(entryOf([], { nodePort: 30_080, loadBalancerIps: [balancer] }));
      for (const [from, to, port] of [
        ['pod-1a', vip, 80],
        ['node-1', vip, 80],
        ['outside', vip, 80],
        ['outside', balancer, 80],
        ['outside', ip('node-1'), 30_080],
      ] as const) {
        expect(await lab.dial(from, to, port), `${from} to ${to} port ${port}`).toEqual({ t: 'refused' });
      }
      await hold(entryOf([], { usableFamilies: familyBit(family), internalPolicy: 'Local' }));
      expect(await lab.dial('pod-1a', vip, 80, { timeoutMs: 300 })).toEqual({ t: 'timedOut' });
      await hold(entryOf([endpoint('pod-1b')]));
      expect(await lab.dial('pod-1a', vip, 81)).toEqual({ t: 'refused' });
      expect(await lab.dial('pod-1a', vip, 81, { transport: 'UDP' })).toEqual({ t: 'refused' });
    });

    it('serves node ports and load balancer addresses by policy', async () => {
      const spec = { nodePort: 30_080, loadBalancerIps: [balancer] };
      await hold(
        entryOf(
          pods.map((pod) => endpoint(pod)),
          spec,
        ),
      );
      for (const [to, port] of [
        [ip('node-1'), 30_080],
        [balancer, 80],
      ] as const) {
        const tally = await reaches('outside', to, port, pods);
        expect([Object.keys(tally.answers).sort(), tally.seenAs, tally.failures]).toEqual([
          [...pods],
          [ip('node-1')],
          [],
        ]);
      }
      await hold(
        entryOf([endpoint('pod-1a', cluster | local), endpoint('pod-2a', cluster)], {
          ...spec,
          externalPolicy: 'Local',
        }),
      );
      for (const [to, port] of [
        [ip('node-1'), 30_080],
        [balancer, 80],
      ] as const) {
        const outside = await reaches('outside', to, port, ['pod-1a']);
        expect([Object.keys(outside.answers), outside.seenAs]).toEqual([['pod-1a'], [ip('outside')]]);
        for (const from of ['pod-1b', 'node-1']) {
          const inside = await reaches(from, to, port, ['pod-1a', 'pod-2a']);
          expect(Object.keys(inside.answers).sort(), `${from} to ${to}`).toEqual(['pod-1a', 'pod-2a']);
        }
      }
      await hold(entryOf([endpoint('pod-2a', cluster)], { ...spec, externalPolicy: 'Local' }));
      expect(await lab.dial('outside', balancer, 80, { timeoutMs: 300 })).toEqual({ t: 'timedOut' });
      expect(await lab.dial('outside', ip('node-1'), 30_080, { timeoutMs: 300 })).toEqual({ t: 'timedOut' });
      expect(await lab.dial('pod-1b', balancer, 80)).toMatchObject({ by: 'pod-2a' });
    });

    it('lets clients to a load balancer address only from its source ranges', async () => {
      const bits = family === 'IPv4' ? 32 : 128;
      const spec = { nodePort: 30_080, loadBalancerIps: [balancer] };
      const ranges = Array.from({ length: 1000 }, (_, i) =>
        family === 'IPv4' ? `100.64.${i >> 8}.${i & 255}/32` : `2001:db8:64::${i.toString(16)}/128`,
      );
      await hold(entryOf([endpoint('pod-1a')], { ...spec, sourceRanges: [...ranges, `${ip('outside')}/${bits}`] }));
      expect(await lab.dial('outside', balancer, 80)).toMatchObject({ by: 'pod-1a' });
      expect(await lab.dial('pod-1b', balancer, 80, { timeoutMs: 300 })).toEqual({ t: 'timedOut' });
      await hold(entryOf([endpoint('pod-1a')], { ...spec, sourceRanges: [...ranges, `${ip('node-1')}/${bits}`] }));
      expect(await lab.dial('outside', balancer, 80, { timeoutMs: 300 })).toEqual({ t: 'timedOut' });
      expect(await lab.dial('node-1', balancer, 80)).toMatchObject({ by: 'pod-1a' });
      expect(await lab.dial('outside', ip('node-1'), 30_080)).toMatchObject({ by: 'pod-1a' });
      expect(await lab.dial('pod-1b', vip, 80)).toMatchObject({ by: 'pod-1a' });
    });

    it('brings a pod back to itself', async () => {
      await hold(entryOf([endpoint('pod-1a')]));
      const outcome = await lab.dial('pod-1a', vip, 80);
      expect(outcome).toMatchObject({ t: 'answered', by: 'pod-1a' });
      expect(outcome).not.toMatchObject({ seenAs: { ip: ip('pod-1a') } });
    });

    it('leaves alone who reached itself by the rules of others', async () => {
      await hold(entryOf([endpoint('pod-1a')]));
      const ipWord = family === 'IPv4' ? 'ip' : 'ip6';
      const elsewhere = family === 'IPv4' ? '198.51.100.77' : '2001:db8:51::77';
      lab.within('node-1', () =>
        feed(
          `table ${ipWord} published {
             chain prerouting {
               type nat hook prerouting priority dstnat;
               ${ipWord} daddr ${elsewhere} tcp dport 8080 dnat to ${ip('pod-1a')}
             }
             chain later {
               type nat hook postrouting priority srcnat + 5;
               ct original ${ipWord} daddr ${elsewhere} ${ipWord} saddr ${ip('pod-1a')} counter masquerade
             }
           }`,
          'nft',
          '-f',
          '-',
        ),
      );
      try {
        expect(await lab.dial('pod-1a', elsewhere, 8080)).toMatchObject({ t: 'answered', by: 'pod-1a' });
        const listing = lab.within('node-1', () => run('nft', 'list', 'chain', ipWord, 'published', 'later'));
        expect(listing, 'the other program masqueraded it, because we had not').toMatch(/counter packets 1 /);
      } finally {
        lab.within('node-1', () => run('nft', 'delete', 'table', ipWord, 'published'));
      }
    });

    it('keeps a client with its endpoint, across frontends, until the endpoint goes', async () => {
      const spec = { affinityTimeoutSeconds: 60, nodePort: 30_080, loadBalancerIps: [balancer] };
      const three = pods.map((pod) => endpoint(pod));
      await hold(entryOf(three, spec));
      const first = await lab.dial('outside', vip, 80);
      const by = first.t === 'answered' ? first.by : '';
      for (const [to, port] of [
        [vip, 80],
        [balancer, 80],
        [ip('node-1'), 30_080],
      ] as const) {
        const tally = await reaches('outside', to, port, []);
        expect(tally, `${to} port ${port}`).toMatchObject({ answers: { [by]: 12 }, failures: [] });
      }
      await hold(
        entryOf(
          three.filter((each) => each.ip !== ip(by)),
          spec,
        ),
      );
      const second = await reaches('outside', vip, 80, []);
      expect(second.failures).toEqual([]);
      expect(Object.keys(second.answers)).toHaveLength(1);
      expect(Object.keys(second.answers)).not.toContain(by);
      await hold(entryOf(three, { ...spec, affinityTimeoutSeconds: 0 }));
      expect(Object.keys((await reaches('outside', vip, 80, pods)).answers).sort()).toEqual([...pods]);
      await hold(entryOf(three, spec));
      expect(Object.keys((await reaches('outside', vip, 80, [])).answers)).toHaveLength(1);
    });

    it('answers a ping of a cluster IP while there is an endpoint', async () => {
      await hold(entryOf([endpoint('pod-2a')]));
      for (const from of ['pod-1a', 'node-1', 'outside']) {
        expect(await lab.ping(from, vip), from).toEqual({ t: 'replied' });
      }
      await hold(entryOf([]));
      expect(await lab.ping('pod-1a', vip)).toMatchObject({ t: 'unreachable' });
    });

    it('balances evenly over many endpoints', async () => {
      const ports = Array.from({ length: 21 }, (_, i) => 9000 + i);
      for (const port of ports) {
        await lab.serveOn({ at: 'pod-2a', ip: ip('pod-2a'), port, transport: 'TCP', as: `port-${port}` });
      }
      for (const count of [3, 5, 9, 21]) {
        const some = ports.slice(0, count);
        await hold(entryOf(some.map((port) => ({ ip: ip('pod-2a'), port, flags: cluster }))));
        const draws = count * 40;
        const tally = await lab.dialMany('pod-1a', vip, 80, { until: [], atLeast: draws, atMost: draws });
        expect(tally.failures).toEqual([]);
        // Pearson's statistic; beyond this for one even balancer in a million (count - 1 + 6.7 standard deviations).
        const deviation = some.reduce((sum, port) => sum + ((tally.answers[`port-${port}`] ?? 0) - 40) ** 2 / 40, 0);
        expect(deviation, `${count} endpoints: ${JSON.stringify(tally.answers)}`).toBeLessThan(
          count - 1 + 6.7 * Math.sqrt(2 * (count - 1)) + 10,
        );
      }
    });
  });
});

const plainSpec = (family: Family): ServicePortSpec => ({
  clusterIps: [vips[family]],
  externalIps: [],
  loadBalancerIps: [],
  nodePort: 0,
  internalPolicy: 'Cluster',
  externalPolicy: 'Cluster',
  affinityTimeoutSeconds: 0,
  sourceRanges: [],
  healthCheckNodePort: 0,
  usableFamilies: familyBit(family),
});
