import { rmSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { feed, run } from '../../contract/namespace.ts';
import { Cluster } from '../../support/lab/cluster.ts';
import { Lab } from '../../support/lab/lab.ts';
import { serviceManifest, sliceManifest } from '../../support/lab/manifests.ts';
import { ableColumns } from '../../support/switching.ts';

/**
 * A node that kube-proxy has programmed is taken over under load: no request fails, kept connections stay where they are, and of
 * kube-proxy's rules nothing is left. The layouts are those that kube-proxy writes, with one Service.
 */
const vip = '10.96.3.1';
const pods = ['pod-1a', 'pod-2a'];
const drivers = (await ableColumns()).filter(({ name }) => name !== 'iptables-legacy').map(({ driver }) => driver);

const nftablesLayout = (endpoints: readonly string[]): string => `table ip kube-proxy {
  comment "rules for kube-proxy"
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = {
    ${vip} . tcp . 80 : goto service-AAAA-default/load/tcp/tcp, ${vip} . udp . 80 : goto service-BBBB-default/load/udp/udp } }
  chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
  chain nat-output { type nat hook output priority -100; policy accept; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept; jump masquerading; }
  chain masquerading {
    meta mark & 0x4000 == 0 return
    meta mark set meta mark ^ 0x4000
    masquerade fully-random
  }
  chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
${endpoints.map((ip, i) => `  chain endpoint-${i}-default/load { meta l4proto { tcp, udp } dnat to ${ip}:8080; }\n`).join('')}
  chain service-AAAA-default/load/tcp/tcp { numgen random mod 2 vmap { 0 : goto endpoint-0-default/load, 1 : goto endpoint-1-default/load }; }
  chain service-BBBB-default/load/udp/udp { numgen random mod 2 vmap { 0 : goto endpoint-0-default/load, 1 : goto endpoint-1-default/load }; }
}
`;

const iptablesLayout = ([first, second]: readonly string[]): string => {
  const chains = (['tcp', 'udp'] as const).flatMap((protocol) =>
    ['SVC', 'SEP-A', 'SEP-B'].map((kind) => `:KUBE-${kind}-${protocol.toUpperCase()} - [0:0]`),
  );
  const rules = (['tcp', 'udp'] as const).flatMap((protocol) => {
    const name = protocol.toUpperCase();
    return [
      `-A KUBE-SERVICES -d ${vip}/32 -p ${protocol} -m comment --comment "default/load:${protocol} cluster IP" -m ${protocol} --dport 80 -j KUBE-SVC-${name}`,
      `-A KUBE-SVC-${name} -m statistic --mode random --probability 0.5 -j KUBE-SEP-A-${name}`,
      `-A KUBE-SVC-${name} -j KUBE-SEP-B-${name}`,
      `-A KUBE-SEP-A-${name} -p ${protocol} -m ${protocol} -j DNAT --to-destination ${first}:8080`,
      `-A KUBE-SEP-B-${name} -p ${protocol} -m ${protocol} -j DNAT --to-destination ${second}:8080`,
    ];
  });
  return `${[
    '*nat',
    ':KUBE-SERVICES - [0:0]',
    ...chains,
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    ...rules,
    'COMMIT',
  ].join('\n')}\n`;
};

const layouts = [
  { name: 'nftables', put: (endpoints: readonly string[]) => feed(nftablesLayout(endpoints), 'nft', '-f', '-') },
  {
    name: 'iptables',
    put: (endpoints: readonly string[]) => feed(iptablesLayout(endpoints), 'iptables-nft-restore', '--noflush'),
  },
] as const;

describe.each(layouts)("from kube-proxy's $name", ({ put }) => {
  let lab: Lab;
  let cluster: Cluster | null = null;

  beforeAll(async () => {
    lab = await Lab.create({ nodes: 2, families: ['IPv4'] });
    for (const pod of pods)
      for (const transport of ['TCP', 'UDP'] as const) await lab.serve(pod, 'IPv4', 8080, transport);
  });
  afterEach(async () => {
    await cluster?.[Symbol.asyncDispose]();
    cluster = null;
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
  });

  it.each(drivers)('to %s', async (driver) => {
    cluster = await Cluster.start(lab, { driver });
    // The controller and the other node are what is needed of it; node-1 is kube-proxy's.
    await cluster.node('node-1').stop();
    await lab.wipeRules('node-1', driver);
    rmSync(cluster.stateDirOf('node-1'), { recursive: true, force: true });
    const ports = ['tcp', 'udp'].map((name) => ({ name, port: 80, protocol: name.toUpperCase() }));
    cluster.source.put(serviceManifest('load', { clusterIP: vip, ports }));
    cluster.source.put(
      sliceManifest(
        lab,
        'load',
        pods,
        ports.map((port) => ({ ...port, port: 8080 })),
      ),
    );
    lab.within('node-1', () => put(pods.map((pod) => lab.place(pod).addresses.IPv4)));

    const loads = await Promise.all([
      lab.load('pod-1b', vip, 80, { fresh: 2, kept: 1 }),
      lab.load('pod-1b', vip, 80, { transport: 'UDP', fresh: 1, kept: 1, connected: true }),
      lab.load('node-1', vip, 80, { fresh: 1, kept: 1 }),
    ]);
    const lived = () => Promise.all(loads.map((load) => load.more(100)));
    await lived();
    cluster.node('node-1').start();
    await cluster.settled();
    const until = Date.now() + 20_000;
    while (/kube-proxy|KUBE-(SVC|SEP|SERVICES)/.test(lab.within('node-1', () => run('nft', 'list', 'ruleset')))) {
      if (Date.now() > until) throw new Error(cluster.node('node-1').log());
      await lived();
    }
    await lived();
    const reports = await Promise.all(loads.map((load) => load.stop()));
    expect(reports.flatMap(({ firstFailures }) => firstFailures)).toEqual([]);
    await cluster.node('node-1').stop();
    await lab.wipeRules('node-1', driver);
  });
});
