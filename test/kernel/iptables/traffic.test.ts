import { writeFileSync } from 'node:fs';
import type { Ip } from '@octoplane/model/address.ts';
import { parseCidr } from '@octoplane/model/address.ts';
import type { Family, ServicePortKey } from '@octoplane/model/keys.ts';
import { type Endpoint, type Entry, endpointFlags, type ServicePortSpec } from '@octoplane/model/rule-set.ts';
import type { Driver, DriverOptions } from '@octoplane/node/drivers/driver.ts';
import { openElsewhere } from '@octoplane/node/drivers/iptables/module.ts';
import { processRunner, type Runner } from '@octoplane/node/drivers/iptables/tools.ts';
import { silentLogger } from '@octoplane/node/testing/logger.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Lab } from '../../support/lab/lab.ts';
import type { Outcome } from '../../support/lab/outcome.ts';
import type { PingOutcome } from '../../support/lab/ping.ts';

/** Real connections through the rules of both flavours, in both families; node-1 alone has a driver. */
const flags = endpointFlags;
const both = flags.cluster | flags.local;

describe.each(['nft', 'legacy'] as const)('iptables (%s)', (flavour) => {
  let lab: Lab;
  let driver: Driver;
  let held: Entry | null = null;

  beforeAll(async () => {
    lab = await Lab.create({ nodes: 2, podsPerNode: 2 });
    lab.routeOutsideThrough('node-1');
    allowErrors(lab);
    driver = await openElsewhere(optionsOf(lab), runnerIn(lab, 'node-1'), flavour);
    await driver.dump();
    await driver.prune(new Map());
  });
  afterAll(async () => {
    await driver?.cleanup();
    await lab?.[Symbol.asyncDispose]();
  });

  describe.each(['IPv4', 'IPv6'] as const)('%s', (family) => {
    const own = addresses[family];
    const ip = (place: string): Ip => lab.place(place).addresses[family];
    const at = (place: string, chosen: number): Endpoint => ({ ip: ip(place), port: 8080, flags: chosen });

    async function program(changed: Partial<ServicePortSpec>, endpoints: readonly Endpoint[], protocol = 'TCP') {
      const key = `default/web:80/${protocol}` as ServicePortKey;
      const after: Entry = { key, spec: { ...specOf(family), ...changed }, endpoints: endpoints.toSorted(byIp) };
      const gone = held !== null && held.key !== key ? [{ key: held.key, before: held, after: null }] : [];
      const changes = [...gone, { key, before: held?.key === key ? held : null, after }];
      await driver.apply(changes);
      expect(await driver.readBack(changes)).toEqual([]);
      held = after;
    }

    it.each(['TCP', 'UDP'] as const)(
      '%s connections to the cluster IP are spread over all endpoints',
      async (transport) => {
        for (const pod of ['pod-1a', 'pod-1b', 'pod-2a']) await lab.serve(pod, family, 8080, transport);
        await program(
          {},
          ['pod-1a', 'pod-1b', 'pod-2a'].map((pod) => at(pod, both)),
          transport,
        );
        for (const from of ['pod-1b', 'node-1']) {
          const until = ['pod-1a', 'pod-1b', 'pod-2a'];
          const tally = await lab.dialMany(from, own.vip, 80, { transport, until, atLeast: 10, atMost: 200 });
          expect(tally.failures).toEqual([]);
          expect(Object.keys(tally.answers).sort()).toEqual(until);
        }
      },
    );

    it('a pod keeps its address, whoever is no pod is masqueraded, and so is a pod that reaches itself', async () => {
      await lab.serve('pod-1a', family, 8080);
      await lab.serve('pod-2a', family, 8080);
      await program({}, [at('pod-2a', both)]);
      expect(await lab.dial('pod-1b', own.vip, 80)).toMatchObject({ by: 'pod-2a', seenAs: { ip: ip('pod-1b') } });
      expect(await lab.dial('outside', own.vip, 80)).toMatchObject({ by: 'pod-2a', seenAs: { ip: ip('node-1') } });
      await program({}, [at('pod-1a', both)]);
      const hairpin = await lab.dial('pod-1a', own.vip, 80);
      expect(hairpin).toMatchObject({ t: 'answered', by: 'pod-1a' });
      expect(hairpin.t === 'answered' && hairpin.seenAs.ip).not.toBe(ip('pod-1a'));
    });

    it('without an endpoint anywhere clients are refused, at every frontend', async () => {
      for (const protocol of ['TCP', 'UDP'] as const) {
        await program({ ...own.external, usableFamilies: 0 }, [], protocol);
        for (const from of ['pod-1a', 'node-1', 'outside']) {
          for (const [address, port] of own.frontends(ip('node-1'))) {
            const outcome = await lab.dial(from, address, port, { transport: protocol, connected: true });
            expect(refused(outcome, from), `${from} to ${address} ${protocol}`).toBe(true);
          }
        }
      }
    });

    it('with endpoints elsewhere only, the Local policy is silent to the outside and open to the cluster', async () => {
      await lab.serve('pod-2a', family, 8080);
      await program({ ...own.external, externalPolicy: 'Local' }, [at('pod-2a', flags.cluster)]);
      for (const [address, port] of own.frontends(ip('node-1')).slice(1)) {
        expect(await lab.dial('outside', address, port, { timeoutMs: 300 })).toEqual({ t: 'timedOut' });
        expect(await lab.dial('pod-1a', address, port)).toMatchObject({ by: 'pod-2a', seenAs: { ip: ip('pod-1a') } });
        expect(await lab.dial('node-1', address, port)).toMatchObject({ by: 'pod-2a', seenAs: { ip: ip('node-1') } });
      }
    });

    it('external clients keep their address under the Local policy and not under Cluster', async () => {
      await lab.serve('pod-1a', family, 8080);
      for (const [externalPolicy, seen] of [
        ['Local', 'outside'],
        ['Cluster', 'node-1'],
      ] as const) {
        await program({ ...own.external, externalPolicy }, [at('pod-1a', both)]);
        for (const [address, port] of own.frontends(ip('node-1')).slice(1))
          expect(await lab.dial('outside', address, port), `${externalPolicy} ${address}`).toMatchObject({
            by: 'pod-1a',
            seenAs: seen === 'outside' ? { ip: ip('outside') } : {},
          });
      }
    });

    it('source ranges hold for load balancer addresses alone', async () => {
      await lab.serve('pod-1a', family, 8080);
      await program({ ...own.external, sourceRanges: [own.elsewhere] }, [at('pod-1a', both)]);
      const [, external, balanced, nodePort] = own.frontends(ip('node-1'));
      if (!external || !balanced || !nodePort) throw new Error('three external frontends');
      expect(await lab.dial('outside', ...balanced, { timeoutMs: 300 })).toEqual({ t: 'timedOut' });
      expect(await lab.dial('outside', ...external)).toMatchObject({ t: 'answered' });
      expect(await lab.dial('outside', ...nodePort)).toMatchObject({ t: 'answered' });
      const range = `${ip('outside')}/${family === 'IPv4' ? 32 : 128}`;
      await program({ ...own.external, sourceRanges: [range] }, [at('pod-1a', both)]);
      expect(await lab.dial('outside', ...balanced)).toMatchObject({ t: 'answered' });
      expect(await lab.dial('pod-1b', ...balanced, { timeoutMs: 300 })).toEqual({ t: 'timedOut' });
    });

    it('a wrong port of a live cluster IP is refused', async () => {
      await lab.serve('pod-1a', family, 8080);
      await program({}, [at('pod-1a', both)]);
      for (const from of ['pod-1b', 'node-1', 'outside']) {
        expect(await lab.dial(from, own.vip, 81)).toEqual({ t: 'refused' });
        const datagram = await lab.dial(from, own.vip, 81, { transport: 'UDP', connected: true });
        expect(refused(datagram, from), from).toBe(true);
      }
    });

    it('a ping is answered while somebody serves, and refused when nobody does', async () => {
      await program({}, [at('pod-1a', both)]);
      for (const from of ['pod-1b', 'node-1', 'outside'])
        expect(await lab.ping(from, own.vip), from).toEqual({ t: 'replied' });
      await program({ usableFamilies: 0 }, []);
      for (const from of ['pod-1b', 'node-1']) expect(refused(await lab.ping(from, own.vip), from), from).toBe(true);
    });

    it('with affinity a client stays, at every frontend, until its endpoint goes', async () => {
      const pods = ['pod-1a', 'pod-1b', 'pod-2a'];
      for (const pod of pods) await lab.serve(pod, family, 8080);
      const endpoints = pods.map((pod) => at(pod, both));
      await program({ ...own.external, affinityTimeoutSeconds: 60 }, endpoints);
      const first = await lab.dial('outside', own.vip, 80);
      if (first.t !== 'answered') throw new Error(first.t);
      for (const [address, port] of own.frontends(ip('node-1'))) {
        const tally = await lab.dialMany('outside', address, port, { until: [], atLeast: 8, atMost: 8 });
        expect(tally.answers).toEqual({ [first.by]: 8 });
      }
      const left = pods.filter((pod) => pod !== first.by);
      const without = endpoints.filter(({ ip: gone }) => gone !== ip(first.by));
      await program({ ...own.external, affinityTimeoutSeconds: 60 }, without);
      const second = await lab.dial('outside', own.vip, 80);
      expect(left).toContain(second.t === 'answered' ? second.by : second.t);
      await program({ ...own.external, affinityTimeoutSeconds: 0 }, endpoints);
      const spread = await lab.dialMany('outside', own.vip, 80, { until: pods, atLeast: 3, atMost: 200 });
      expect(Object.keys(spread.answers).sort()).toEqual(pods);
    });

    it('no connection fails while endpoints come and go', async () => {
      await lab.serve('pod-1a', family, 8080);
      await lab.serve('pod-2a', family, 8080);
      await program({}, [at('pod-1a', both)]);
      const load = await lab.load('pod-1b', own.vip, 80);
      for (let i = 0; i < 20; i++) await program({}, [at('pod-1a', both), ...(i % 2 ? [] : [at('pod-2a', both)])]);
      const report = await load.stop();
      expect(report.firstFailures).toEqual([]);
      expect(report.connections).toBeGreaterThan(20);
    });
  });
});

/** Where a packet is refused on the way out, the kernel tells the sender with EPERM before the ICMP error arrives. */
const refused = (outcome: Outcome | PingOutcome, from: string): boolean =>
  outcome.t === 'refused' || (outcome.t === 'unreachable' && outcome.code === 'EPERM' && from === 'node-1');

/** The kernel sends a host six ICMP errors and then one a second, redirects included; a test asks for more. */
function allowErrors(lab: Lab): void {
  lab.within('node-1', () => {
    for (const limit of ['ipv4/icmp_ratelimit', 'ipv6/icmp/ratelimit']) writeFileSync(`/proc/sys/net/${limit}`, '0');
  });
}

interface Addresses {
  readonly vip: Ip;
  readonly external: Partial<ServicePortSpec>;
  /** A range that no client is in. */
  readonly elsewhere: string;
  /** Cluster IP, external IP, load balancer address, node port. */
  frontends(node: Ip): readonly (readonly [Ip, number])[];
}

const addresses: Record<Family, Addresses> = {
  IPv4: {
    vip: '10.96.0.10',
    external: { externalIps: ['198.51.100.7'], loadBalancerIps: ['203.0.113.7'], nodePort: 30_080 },
    elsewhere: '192.0.2.0/24',
    frontends: (node) => [
      ['10.96.0.10', 80],
      ['198.51.100.7', 80],
      ['203.0.113.7', 80],
      [node, 30_080],
    ],
  },
  IPv6: {
    vip: 'fd00:96::a',
    external: { externalIps: ['2001:db8:51::7'], loadBalancerIps: ['2001:db8:113::7'], nodePort: 30_080 },
    elsewhere: '2001:db8:ffff::/48',
    frontends: (node) => [
      ['fd00:96::a', 80],
      ['2001:db8:51::7', 80],
      ['2001:db8:113::7', 80],
      [node, 30_080],
    ],
  },
};

const specOf = (family: Family): ServicePortSpec => ({
  clusterIps: [addresses[family].vip],
  externalIps: [],
  loadBalancerIps: [],
  nodePort: 0,
  internalPolicy: 'Cluster',
  externalPolicy: 'Cluster',
  affinityTimeoutSeconds: 0,
  sourceRanges: [],
  healthCheckNodePort: 0,
  usableFamilies: 3,
});

const byIp = (a: Endpoint, b: Endpoint): number => (a.ip < b.ip ? -1 : 1);

/** Programs are started in the namespace of a node, and waited for here. */
const runnerIn = (lab: Lab, node: string): Runner => ({
  run: (...call) => lab.within(node, () => processRunner().run(...call)),
});

const optionsOf = (lab: Lab): DriverOptions => ({
  logger: silentLogger,
  clusterCidrs: ['10.244.0.0/16', 'fd00:244::/32'].flatMap((text) => parseCidr(text) ?? []),
  masqueradeAll: false,
  masqueradeBit: 14,
  nodePortAddresses: { t: 'all' },
  nodeAddresses: Object.values(lab.place('node-1').addresses),
  icmp: 'reply',
  dropInvalid: true,
  cgroupPath: '',
  bpfFsPath: '',
  stateDir: '',
});
