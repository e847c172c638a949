import { cidrContains, type Ip, parseCidr } from '@octoplane/model/address.ts';
import { changesBetween } from '@octoplane/model/delta.ts';
import { type Family, parseServicePortKey } from '@octoplane/model/keys.ts';
import { type Endpoint, type Entry, endpointFlags, familyBit, type RuleSet } from '@octoplane/model/rule-set.ts';
import { arbitraryRuleSet } from '@octoplane/node/testing/arbitrary.ts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Books } from './books.ts';
import { leastSize, sizeFor } from './chains.ts';
import { chainsText, type FrameOptions, hooksText, setsText } from './frame.ts';
import { entranceOperations, renderText } from './operation.ts';
import { type Fate, type Packet, Tracer } from './testing/tracer.ts';

/**
 * What rules mean is said twice: by the tables, through which packets are walked as text, and here, from the rule set. Both must agree
 * after any sequence of changes.
 */
const own: Readonly<Record<Family, Ip>> = { IPv4: '172.18.0.1', IPv6: 'fd00:18::1' };
const clients: Readonly<Record<Family, readonly Ip[]>> = {
  // A pod, a pod that is an endpoint, the node itself, and one outside, who is and is not in a source range.
  IPv4: ['10.244.9.9', '10.244.1.1', own.IPv4, '172.18.0.250', '192.0.2.1'],
  IPv6: ['fd00:244:9::9', 'fd00:244:1::1', own.IPv6, 'fd00:18::250', '2001:db8::1'],
};
const clusterCidrs = ['10.244.0.0/16', 'fd00:244::/32'].flatMap((text) => parseCidr(text) ?? []);
const options: FrameOptions = {
  clusterCidrs,
  masqueradeAll: false,
  masqueradeBit: 14,
  nodePortAddresses: { t: 'all' },
  nodeAddresses: [own.IPv4, own.IPv6],
  icmp: 'reply',
  dropInvalid: true,
};

describe('what the tables mean', () => {
  it('is what the rule set means, after any changes', () => {
    fc.assert(
      fc.property(fc.array(arbitraryRuleSet, { minLength: 1, maxLength: 4 }), (states) => {
        const tables = new Tables();
        let held: RuleSet = new Map();
        for (const state of states) {
          tables.change(held, state);
          held = state;
        }
        for (const entry of held.values()) expectMeaning(tables, held, entry);
      }),
      { numRuns: 40 },
    );
  });

  it('keeps a client with its endpoint through every frontend, and only while the endpoint is chosen', () => {
    const tables = new Tables();
    const state: RuleSet = new Map([[sticky.key, sticky]]);
    tables.change(new Map(), state);
    const from = clients.IPv4[3] ?? '';
    const first = tables.trace({ family: 'IPv4', from, to: '10.96.0.10', proto: 'tcp', port: 80 }, 2);
    expect(first).toMatchObject({ t: 'translated', ip: '10.244.1.3' });
    for (const [to, port] of [
      ['10.96.0.10', 80],
      ['203.0.113.10', 80],
      [own.IPv4, 30_080],
    ] as const) {
      expect(tables.trace({ family: 'IPv4', from, to, proto: 'tcp', port }, 0)).toMatchObject({ ip: '10.244.1.3' });
    }
    const other = tables.trace({ family: 'IPv4', from: '192.0.2.9', to: '10.96.0.10', proto: 'tcp', port: 80 }, 0);
    expect(other).toMatchObject({ ip: '10.244.1.1' });
    const plain = { ...sticky, spec: { ...sticky.spec, affinityTimeoutSeconds: 0 } };
    tables.change(state, new Map([[plain.key, plain]]));
    expect(tables.trace({ family: 'IPv4', from, to: '10.96.0.10', proto: 'tcp', port: 80 }, 0)).toMatchObject({
      ip: '10.244.1.1',
    });
  });
});

class Tables {
  readonly #books = new Books();
  readonly #tracer = new Tracer([own.IPv4, own.IPv6]);

  constructor() {
    this.#tracer.load(setsText() + chainsText(options));
    this.#tracer.load(renderText(entranceOperations()));
    this.#tracer.load(hooksText());
  }

  change(from: RuleSet, to: RuleSet): void {
    const plan = this.#books.plan([...changesBetween(from, to)]);
    this.#tracer.load(renderText(plan.operations));
    plan.commit();
  }

  forgetClients(): void {
    this.#tracer.forgetClients();
  }

  trace(packet: Packet, drawn: number): Fate {
    return this.#tracer.trace(packet, (modulus) => drawn % modulus);
  }
}

function expectMeaning(tables: Tables, ruleSet: RuleSet, entry: Entry): void {
  const { spec } = entry;
  const id = parseServicePortKey(entry.key);
  const proto = id?.protocol.toLowerCase() as Packet['proto'];
  const frontends = [
    ...spec.clusterIps.map((ip) => ['clusterIP', ip, id?.port ?? 0] as const),
    ...spec.loadBalancerIps.map((ip) => ['loadBalancerIP', ip, id?.port ?? 0] as const),
    ...spec.externalIps.map((ip) => ['externalIP', ip, id?.port ?? 0] as const),
    ...(spec.nodePort === 0 ? [] : [own.IPv4, own.IPv6].map((ip) => ['nodePort', ip, spec.nodePort] as const)),
  ];
  for (const [kind, to, port] of frontends) {
    const family: Family = to.includes(':') ? 'IPv6' : 'IPv4';
    for (const from of clients[family]) {
      const meaning = meaningOf(entry, kind, family, from);
      const fates = fatesOf(tables, { family, from, to, proto, port }, sizeFor(Math.max(1, entry.endpoints.length)));
      expect(fates, `${from} to ${kind} ${to} port ${port} of ${JSON.stringify(entry)}`).toEqual(meaning);
    }
    if (kind !== 'clusterIP') continue;
    const pings = fatesOf(
      tables,
      { family, from: clients[family][0] ?? '', to, proto: family === 'IPv4' ? 'icmp' : 'icmpv6', port: 0 },
      1,
    );
    const usable = [...ruleSet.values()].some(
      (each) => each.spec.clusterIps.includes(to) && (each.spec.usableFamilies & familyBit(family)) !== 0,
    );
    expect(pings).toEqual([usable ? `translated to ${own[family]}` : 'rejected']);
    const elsewhere = { family, from: clients[family][0] ?? '', to, proto, port: 65_000 };
    expect(fatesOf(tables, elsewhere, 1)).toEqual(['rejected']);
  }
}

/** Every fate that some draw leads to, for a client that nobody remembers. */
function fatesOf(tables: Tables, packet: Packet, draws: number): string[] {
  const fates = new Set<string>();
  for (let drawn = 0; drawn < Math.max(draws, leastSize); drawn++) {
    tables.forgetClients();
    const fate = tables.trace(packet, drawn);
    fates.add(
      fate.t === 'translated'
        ? `translated to ${fate.ip}${packet.port === 0 ? '' : ` ${fate.port}${fate.masqueraded ? ' masqueraded' : ''}`}`
        : fate.t,
    );
  }
  return [...fates].sort();
}

/** P1, P6, P11 to P14, P23, P33 and P35, as they are written. */
function meaningOf(entry: Entry, kind: string, family: Family, from: Ip): string[] {
  const { spec } = entry;
  const inCluster = clusterCidrs.some((cidr) => cidrContains(cidr, from));
  const isNode = from === own[family];
  if (kind === 'loadBalancerIP') {
    const ranges = spec.sourceRanges
      .flatMap((text) => parseCidr(text) ?? [])
      .filter((cidr) => cidr.ip.includes(':') === (family === 'IPv6'));
    if (ranges.length > 0 && !ranges.some((range) => cidrContains(range, from))) return ['dropped'];
  }
  const policy = kind === 'clusterIP' ? spec.internalPolicy : spec.externalPolicy;
  const local = policy === 'Local' && (kind === 'clusterIP' || !(inCluster || isNode));
  const flag = local ? endpointFlags.local : endpointFlags.cluster;
  const chosen = (wanted: number): Endpoint[] =>
    entry.endpoints.filter(
      ({ ip, flags }) =>
        ip.includes(':') === (family === 'IPv6') && (flags & endpointFlags.draining) === 0 && (flags & wanted) !== 0,
    );
  const endpoints = chosen(flag);
  if (endpoints.length === 0) return [(spec.usableFamilies & familyBit(family)) !== 0 ? 'dropped' : 'rejected'];
  const masqueraded = kind === 'clusterIP' ? !inCluster : policy === 'Cluster' || isNode;
  return [
    ...new Set(
      endpoints.map(({ ip, port }) => `translated to ${ip} ${port}${masqueraded || ip === from ? ' masqueraded' : ''}`),
    ),
  ].sort();
}

const sticky: Entry = {
  key: 'default/web:80/TCP' as Entry['key'],
  spec: {
    clusterIps: ['10.96.0.10'],
    externalIps: [],
    loadBalancerIps: ['203.0.113.10'],
    nodePort: 30_080,
    internalPolicy: 'Cluster',
    externalPolicy: 'Cluster',
    affinityTimeoutSeconds: 60,
    sourceRanges: [],
    healthCheckNodePort: 0,
    usableFamilies: 1,
  },
  endpoints: [1, 2, 3].map((n) => ({ ip: `10.244.1.${n}`, port: 8080, flags: endpointFlags.cluster })),
};
