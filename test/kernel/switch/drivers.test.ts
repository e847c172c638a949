import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cluster } from '../../support/lab/cluster.ts';
import { type Flow, Lab, type RunningLoad } from '../../support/lab/lab.ts';
import { serviceManifest, sliceManifest } from '../../support/lab/manifests.ts';
import { type Column, columns, lackOf } from '../../support/scenarios/columns.ts';
import { ableColumns, type Step, tour, useFlavour } from '../../support/switching.ts';

/**
 * A node's driver is changed, from each to each other, under clients that never pause: in a pod, on the node and outside, over TCP
 * and UDP, on new connections and on such as were there before. None of them fails, and none that is kept moves to another endpoint.
 */
const vip = { IPv4: '10.96.2.1', IPv6: 'fd00:96::2:1' } as const;
const nodePort = 30_200;
const pods = ['pod-1a', 'pod-2a', 'pod-2b'];
const able = await ableColumns();
const steps: readonly Step[] = tour(able);

describe('a change of driver', () => {
  let lab: Lab;
  let cluster: Cluster;
  let loads: readonly RunningLoad[];
  const kept: { readonly flow: Flow; readonly name: string; readonly by: string }[] = [];

  beforeAll(async () => {
    lab = await Lab.create({ nodes: 2 });
    const [first] = able;
    if (first === undefined) throw new Error('no driver can run here');
    lab.within('node-1', () => useFlavour(first));
    cluster = await Cluster.start(lab, { driver: first.driver });
    for (const family of ['IPv4', 'IPv6'] as const)
      for (const transport of ['TCP', 'UDP'] as const)
        for (const pod of pods) await lab.serve(pod, family, 8080, transport);
    cluster.source.put(
      serviceManifest('load', {
        type: 'NodePort',
        clusterIPs: Object.values(vip),
        ports: [
          { name: 'tcp', port: 80, nodePort },
          { name: 'udp', port: 80, protocol: 'UDP', nodePort },
        ],
      }),
    );
    const ports = [
      { name: 'tcp', port: 8080 },
      { name: 'udp', port: 8080, protocol: 'UDP' },
    ];
    for (const family of ['IPv4', 'IPv6'] as const)
      cluster.source.put(sliceManifest(lab, 'load', pods, ports, { family }));
    await cluster.settled();
    const node = lab.place('node-1').addresses;
    loads = await Promise.all([
      lab.load('pod-1b', vip.IPv4, 80, { fresh: 2, kept: 1 }),
      lab.load('pod-1b', vip.IPv4, 80, { transport: 'UDP', fresh: 1, kept: 1 }),
      lab.load('node-1', vip.IPv4, 80, { fresh: 1, kept: 1 }),
      lab.load('outside', node.IPv4, nodePort, { fresh: 2, kept: 1 }),
      lab.load('outside', node.IPv4, nodePort, { transport: 'UDP', fresh: 1, kept: 1, connected: true }),
      lab.load('outside', node.IPv6, nodePort, { fresh: 1, kept: 1 }),
      lab.load('pod-1b', vip.IPv6, 80, { fresh: 1, kept: 1 }),
    ]);
    await lived(loads);
    // Between two questions on a flow that is kept lies a change of driver, on a machine that may be slow.
    lab.within('node-1', () => writeFileSync('/proc/sys/net/netfilter/nf_conntrack_udp_timeout', '600'));
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  /** Opened under one driver, used under all that follow. */
  async function keepFlows(name: string): Promise<void> {
    const node = lab.place('node-1').addresses;
    for (const transport of ['TCP', 'UDP'] as const)
      for (const [at, ip, port] of [
        ['pod-1b', vip.IPv4, 80],
        ['outside', node.IPv4, nodePort],
        ['outside', node.IPv6, nodePort],
      ] as const) {
        const flow = await lab.open(at, ip, port, { transport, connected: true });
        const outcome = await flow.ask();
        if (outcome.t !== 'answered') throw new Error(`${at} to ${ip}: ${outcome.t}`);
        kept.push({ flow, name: `${transport} from ${at} to ${ip}, since ${name}`, by: outcome.by });
      }
  }

  it.each(steps)('$from.name -> $to.name', async ({ from, to }) => {
    await keepFlows(from.name);
    await cluster.node('node-1').stop();
    lab.within('node-1', () => useFlavour(to));
    cluster.node('node-1').start(cluster.nodeArgs('node-1', to.driver));
    await cluster.settled();
    await lived(loads);
    await untilReplaced(cluster, from);
    await lived(loads);
    const reports = await Promise.all(loads.map((load) => load.peek()));
    expect(reports.flatMap(({ firstFailures }, i) => firstFailures.map((failure) => `load ${i}: ${failure}`))).toEqual(
      [],
    );
    const now = [];
    for (const { flow, name } of kept) {
      const outcome = await flow.ask(3_000);
      now.push(`${name}: ${outcome.t === 'answered' ? outcome.by : outcome.t}`);
    }
    expect(now).toEqual(kept.map(({ name, by }) => `${name}: ${by}`));
  });

  it.for(columns)('to and from $name has been tried', async (column, context) => {
    const lacks = await lackOf(column);
    if (lacks !== null) context.skip(lacks);
    expect(steps.filter(({ from, to }) => from === column || to === column)).not.toEqual([]);
  });
});

/** Every load has made enough requests to have met what just happened. */
const lived = (loads: readonly RunningLoad[]): Promise<unknown> => Promise.all(loads.map((load) => load.more(100)));

/** The daemon turns to its predecessor after it has acknowledged its own rules, and says when that is done. */
async function untilReplaced(cluster: Cluster, { driver }: Column): Promise<void> {
  const until = Date.now() + 20_000;
  const said = new RegExp(`"driver":"${driver}","msg":"(retired|no rules of this driver are left)`);
  const { startedAtMs } = cluster.node('node-1');
  const isDone = (line: string) => said.test(line) && Date.parse(JSON.parse(line).time) >= startedAtMs;
  while (!cluster.node('node-1').log(100).split('\n').some(isDone)) {
    if (Date.now() > until) throw new Error(`${driver} is not replaced: ${cluster.node('node-1').log()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
