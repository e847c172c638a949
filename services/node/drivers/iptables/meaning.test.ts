import { familyOf, type Ip, parseCidr } from '@octoplane/model/address.ts';
import { type Family, parseServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, endpointFlags, familyBit, type RuleSet } from '@octoplane/model/rule-set.ts';
import { arbitraryRuleSet } from '@octoplane/node/testing/arbitrary.ts';
import { silentLogger } from '@octoplane/node/testing/logger.ts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DriverOptions } from '../driver.ts';
import { Books, Demand } from './books.ts';
import { type Chains, Model } from './model.ts';
import { frameNames } from './names.ts';
import { settingsOf } from './settings.ts';
import { visibleEntry } from './visible.ts';
import { type Outcome, type Packet, walk } from './walker.ts';

/**
 * The rules mean what the rule set says: packets from every kind of client to every frontend are walked through the rendered
 * chains, and end where an oracle that knows nothing of chains expects them.
 */
const options: DriverOptions = {
  logger: silentLogger,
  clusterCidrs: ['10.244.0.0/16', 'fd00:244::/32'].flatMap((text) => parseCidr(text) ?? []),
  masqueradeAll: false,
  masqueradeBit: 14,
  nodePortAddresses: { t: 'all' },
  nodeAddresses: ['172.18.0.1', 'fd00:18::1'],
  icmp: 'reply',
  dropInvalid: true,
  cgroupPath: '',
  bpfFsPath: '',
  stateDir: '',
};

const clients: Record<Family, Record<'pod' | 'node' | 'outside' | 'stranger', Ip>> = {
  IPv4: { pod: '10.244.1.9', node: '172.18.0.1', outside: '172.18.0.250', stranger: '192.0.2.1' },
  IPv6: { pod: 'fd00:244:1::9', node: 'fd00:18::1', outside: 'fd00:18::250', stranger: '2001:db8::1' },
};

describe('the meaning of the rules', () => {
  it('every client reaches what the rule set says, and each endpoint equally often', () => {
    fc.assert(
      fc.property(arbitraryRuleSet, (ruleSet) => {
        for (const family of ['IPv4', 'IPv6'] as const) {
          const tables = tablesOf(ruleSet, family);
          for (const entry of ruleSet.values())
            for (const probe of probesOf(entry, family))
              expect(outcomeOf(tables, probe.packet)).toEqual(probe.expected);
        }
      }),
    );
  });

  it('of 10,000 services a first packet passes tens of rules', () => {
    const ruleSet = manyServices(10_000);
    const { nat, filter } = tablesOf(ruleSet, 'IPv4');
    let most = 0;
    for (const [i, entry] of [...ruleSet.values()].entries()) {
      if (i % 97 !== 0) continue;
      const packet = packetTo(entry.spec.clusterIps[0] ?? '', 80, '10.244.1.9', 'IPv4');
      for (const outcome of walk(nat, frameNames.services, packet)) most = Math.max(most, outcome.rules);
      for (const outcome of walk(filter, frameNames.services, packet)) most = Math.max(most, outcome.rules);
    }
    expect(most).toBeLessThan(100);
    const elsewhere = walk(nat, frameNames.services, packetTo('192.0.2.77', 80, '10.244.1.9', 'IPv4'));
    expect(elsewhere[0]?.rules).toBeLessThan(20);
  });

  it('of 2,768 node ports as well', () => {
    const ruleSet = new Map(
      Array.from({ length: 2768 }, (_, i) => {
        const entry = service(i, { nodePort: 30_000 + i });
        return [entry.key, entry] as const;
      }),
    );
    const { nat } = tablesOf(ruleSet, 'IPv4');
    const [first] = walk(nat, frameNames.services, packetTo('172.18.0.1', 32_767, '172.18.0.250', 'IPv4'));
    expect(first?.verdict).toBe('dnat 10.244.1.5:8080');
    expect(first?.rules).toBeLessThan(100);
  });
});

interface Tables {
  readonly nat: Chains;
  readonly filter: Chains;
}

function tablesOf(ruleSet: RuleSet, family: Family): Tables {
  const model = new Model(settingsOf(family, options, []));
  const entries = Array.from(ruleSet.values(), (entry) => ({
    key: entry.key,
    entry: visibleEntry(entry, ['IPv4', 'IPv6']),
  }));
  const demand = { nat: new Demand(new Books()), filter: new Demand(new Books()) };
  model.change(entries, demand);
  return { nat: demand.nat.work.chains, filter: demand.filter.work.chains };
}

interface Verdict {
  /** "10.244.1.5:8080" with the share that it gets; or one of "REJECT" and "DROP". */
  readonly to: Readonly<Record<string, number>>;
  readonly masqueraded: boolean;
}

function outcomeOf({ nat, filter }: Tables, packet: Packet): Verdict {
  const translated = walk(nat, frameNames.services, packet);
  const to: Record<string, number> = {};
  const add = ({ verdict, probability }: Outcome) => {
    const name = verdict.replace(/^dnat /, '');
    to[name] = Math.round(((to[name] ?? 0) + probability) * 1e6) / 1e6;
  };
  for (const outcome of translated) {
    if (outcome.verdict === 'none') for (const refused of walk(filter, frameNames.services, packet)) add(refused);
    else add(outcome);
  }
  return { to, masqueraded: 'REJECT' in to || 'DROP' in to ? false : translated.some(({ marked }) => marked) };
}

function packetTo(destination: Ip, port: number, source: Ip, family: Family, protocol = 'tcp'): Packet {
  const localAddresses = family === 'IPv4' ? ['172.18.0.1', '127.0.0.1'] : ['fd00:18::1', '::1'];
  return { source, destination, port, protocol, localAddresses };
}

function* probesOf(entry: Entry, family: Family): Generator<{ packet: Packet; expected: Verdict }> {
  const { spec } = entry;
  const id = parseServicePortKey(entry.key);
  if (id === null) throw new Error(entry.key);
  const protocol = id.protocol.toLowerCase();
  const own = (ips: readonly Ip[]) => ips.filter((ip) => familyOf(ip) === family);
  for (const [who, source] of Object.entries(clients[family])) {
    const inCluster = who === 'pod' || who === 'node';
    for (const ip of own(spec.clusterIps)) {
      const packet = packetTo(ip, id.port, source, family, protocol);
      yield { packet, expected: expectedAt(entry, family, spec.internalPolicy === 'Local', who !== 'pod') };
      const wrongPort = packetTo(ip, id.port + 1, source, family, protocol);
      yield { packet: wrongPort, expected: { to: { REJECT: 1 }, masqueraded: false } };
    }
    const external = expectedAt(
      entry,
      family,
      spec.externalPolicy === 'Local' && !(inCluster && hasCluster(entry, family)),
      spec.externalPolicy === 'Cluster' || who === 'node',
    );
    for (const ip of own(spec.externalIps))
      yield { packet: packetTo(ip, id.port, source, family, protocol), expected: external };
    for (const ip of own(spec.loadBalancerIps)) {
      const ranges = spec.sourceRanges.filter((range) => familyOf(range) === family);
      // 10.0.0.0/8 and 172.18.0.0/24: all but the stranger.
      const shut = ranges.length > 0 && who === 'stranger' && (isUsable(entry, family) || 'DROP' in external.to);
      yield {
        packet: packetTo(ip, id.port, source, family, protocol),
        expected: shut ? { to: { DROP: 1 }, masqueraded: false } : external,
      };
    }
    const nodeAddress = clients[family].node;
    if (spec.nodePort !== 0)
      yield { packet: packetTo(nodeAddress, spec.nodePort, source, family, protocol), expected: external };
  }
}

const chosen = (entry: Entry, family: Family, flag: number) =>
  entry.endpoints.filter(({ ip, flags }) => familyOf(ip) === family && (flags & flag) !== 0);

const hasCluster = (entry: Entry, family: Family): boolean => chosen(entry, family, endpointFlags.cluster).length > 0;

const isUsable = (entry: Entry, family: Family): boolean => (entry.spec.usableFamilies & familyBit(family)) !== 0;

function expectedAt(entry: Entry, family: Family, local: boolean, masqueraded: boolean): Verdict {
  const endpoints = chosen(entry, family, local ? endpointFlags.local : endpointFlags.cluster);
  if (endpoints.length === 0) return { to: { [isUsable(entry, family) ? 'DROP' : 'REJECT']: 1 }, masqueraded: false };
  const share = Math.round((1 / endpoints.length) * 1e6) / 1e6;
  const name = ({ ip, port }: { ip: Ip; port: number }) => `${ip.includes(':') ? `[${ip}]` : ip}:${port}`;
  return { to: Object.fromEntries(endpoints.map((endpoint) => [name(endpoint), share])), masqueraded };
}

function service(i: number, changed: Partial<Entry['spec']> = {}): Entry {
  return {
    key: `default/svc-${i}:80/TCP` as Entry['key'],
    spec: {
      clusterIps: [`10.${96 + (i % 16)}.${(i * 7) % 256}.${(i >> 4) % 256}`],
      externalIps: [],
      loadBalancerIps: [],
      nodePort: 0,
      internalPolicy: 'Cluster',
      externalPolicy: 'Cluster',
      affinityTimeoutSeconds: 0,
      sourceRanges: [],
      healthCheckNodePort: 0,
      usableFamilies: 1,
      ...changed,
    },
    endpoints: [{ ip: '10.244.1.5', port: 8080, flags: endpointFlags.cluster }],
  };
}

const manyServices = (count: number): RuleSet =>
  new Map(
    Array.from({ length: count }, (_, i) => {
      const entry = service(i);
      return [entry.key, entry] as const;
    }),
  );
