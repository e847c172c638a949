import type { Entry } from '@octoplane/model/rule-set.ts';
import { IpvsTable } from '@octoplane/node/drivers/ipvs/table.ts';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { changeOf, entryOf, NodeLab } from './on-node.ts';

const vip = '10.96.0.10';
const key = 'default/web:80/TCP';

describe('what becomes of connections', () => {
  let node: NodeLab;
  let table: IpvsTable;
  let current: Entry | null = null;
  beforeAll(async () => {
    node = await NodeLab.create();
    table = IpvsTable.open();
    await node.driver.dump();
    for (const pod of ['pod-1a', 'pod-2a'])
      for (const transport of ['TCP', 'UDP'] as const) await node.lab.serve(pod, 'IPv4', 8080, transport);
  });
  afterEach(async () => {
    await become(null);
    await node.driver.prune(new Map());
  });
  afterAll(async () => {
    table[Symbol.dispose]();
    await node[Symbol.asyncDispose]();
  });

  const at = (pod: string, flags = 3) => ({ at: `${node.lab.place(pod).addresses.IPv4}:8080`, flags });
  const web = (...pods: string[]) =>
    entryOf(
      key,
      { clusterIps: [vip], usableFamilies: 1 },
      pods.map((pod) => at(pod)),
    );

  async function become(entry: Entry | null): Promise<void> {
    if (current !== null || entry !== null) await node.apply(changeOf(current, entry));
    current = entry;
  }

  const weights = () =>
    Object.fromEntries(
      table.destinations({ t: 'address', protocol: 'TCP', ip: vip, port: 80 }).map(({ ip, weight }) => [ip, weight]),
    );

  it('of an endpoint that was removed: they go on, and it goes with the last of them', async () => {
    await become(web('pod-1a'));
    const flow = await node.lab.open('pod-1b', vip, 80);
    expect(await flow.ask()).toMatchObject({ t: 'answered', by: 'pod-1a' });
    await become(web('pod-2a'));
    expect(await flow.ask()).toMatchObject({ t: 'answered', by: 'pod-1a' });
    const { answers } = await node.lab.dialMany('pod-1b', vip, 80, { until: [], atLeast: 6, atMost: 6 });
    expect(answers).toEqual({ 'pod-2a': 6 });
    expect(weights()).toEqual({ '10.244.1.10': 0, '10.244.2.10': 1 });
    expect(await node.driver.dump()).toEqual(new Map([[web('pod-2a').key, node.driver.visible(web('pod-2a'))]]));
    expect(node.driver.gauges()['ipvs_draining_virtual_services']).toBe(1);
    await node.driver.prune(new Map([[web('pod-2a').key, web('pod-2a')]]));
    expect(await flow.ask()).toMatchObject({ t: 'answered', by: 'pod-1a' });
    await flow[Symbol.asyncDispose]();
  });

  it('of a service that was removed: they go on, also when the daemon restarts, and nobody new comes in', async () => {
    await become(web('pod-1a', 'pod-2a'));
    const flow = await node.lab.open('pod-1b', vip, 80);
    const first = await flow.ask();
    expect(first).toMatchObject({ t: 'answered' });
    await become(null);
    expect(await flow.ask()).toMatchObject({ t: 'answered' });
    expect(await node.lab.dial('pod-1b', vip, 80)).toEqual({ t: 'refused' });
    const restarted = await node.restart();
    expect(await restarted.dump()).toEqual(new Map());
    await restarted.prune(new Map());
    expect(await flow.ask()).toMatchObject({ t: 'answered' });
    // The same address for another service.
    await become(web('pod-2a'));
    expect(await flow.ask()).toMatchObject({ t: 'answered' });
    const { answers } = await node.lab.dialMany('pod-1b', vip, 80, { until: [], atLeast: 4, atMost: 4 });
    expect(answers).toEqual({ 'pod-2a': 4 });
    await flow[Symbol.asyncDispose]();
  });

  it('of an endpoint that comes back while it drains: it takes connections again', async () => {
    await become(web('pod-1a', 'pod-2a'));
    const flow = await node.lab.open('pod-1b', vip, 80);
    expect(await flow.ask()).toMatchObject({ t: 'answered' });
    await become(web('pod-2a'));
    await become(web('pod-1a', 'pod-2a'));
    expect(weights()).toEqual({ '10.244.1.10': 1, '10.244.2.10': 1 });
    await node.lab.dialMany('pod-1b', vip, 80, { until: ['pod-1a', 'pod-2a'], atLeast: 2, atMost: 10 });
    await flow[Symbol.asyncDispose]();
  });

  it('a source port that is used again is not pinned to an endpoint that is gone (k/k #81775)', async () => {
    await become(web('pod-1a'));
    const bindPort = 40_001;
    expect(await node.lab.dial('pod-1b', vip, 80, { bindPort })).toMatchObject({ t: 'answered', by: 'pod-1a' });
    await become(web('pod-2a'));
    // The connection before it is in TIME_WAIT; half a second is less than TCP waits before it asks again.
    const again = await node.lab.dial('pod-1b', vip, 80, { bindPort, timeoutMs: 500 });
    expect(again).toMatchObject({ t: 'answered', by: 'pod-2a' });
  });

  it('a UDP flow goes to another endpoint with its next packet when its own is gone (P30), and from none to the first (P31)', async () => {
    const dns = (...pods: string[]) =>
      entryOf(
        'default/dns:53/UDP',
        { clusterIps: [vip] },
        pods.map((pod) => at(pod)),
      );
    const udp = { transport: 'UDP', bindPort: 40_002 } as const;
    // The kernel forgets flows to what was removed a tick later: one packet may be lost.
    const ask = async () => {
      const first = await node.lab.dial('pod-1b', vip, 53, { ...udp, timeoutMs: 500 });
      return first.t === 'timedOut' ? node.lab.dial('pod-1b', vip, 53, { ...udp, timeoutMs: 500 }) : first;
    };
    await node.apply(changeOf(null, dns()));
    expect(await ask()).toEqual({ t: 'refused' });
    await node.apply(changeOf(dns(), dns('pod-1a')));
    expect(await ask()).toMatchObject({ t: 'answered', by: 'pod-1a' });
    await node.apply(changeOf(dns('pod-1a'), dns('pod-2a')));
    expect(await ask()).toMatchObject({ t: 'answered', by: 'pod-2a' });
    await node.apply(changeOf(dns('pod-2a'), dns()));
    expect(await ask()).toEqual({ t: 'refused' });
    await node.apply(changeOf(dns(), dns('pod-1a')));
    expect(await ask()).toMatchObject({ t: 'answered', by: 'pod-1a' });
    await node.apply(changeOf(dns('pod-1a'), null));
  });

  it('a UDP flow stays with an endpoint that is draining', async () => {
    const dns = (...endpoints: ReturnType<typeof at>[]) =>
      entryOf('default/dns:53/UDP', { clusterIps: [vip], usableFamilies: 1 }, endpoints);
    const ask = (bindPort: number) => node.lab.dial('pod-1b', vip, 53, { transport: 'UDP', bindPort });
    const before = dns(at('pod-1a'));
    const after = dns(at('pod-1a', 8), at('pod-2a'));
    await node.apply(changeOf(null, before));
    expect(await ask(40_003)).toMatchObject({ by: 'pod-1a' });
    await node.apply(changeOf(before, after));
    expect(await ask(40_003)).toMatchObject({ by: 'pod-1a' });
    expect(await ask(40_004)).toMatchObject({ by: 'pod-2a' });
    await node.apply(changeOf(after, null));
  });

  it('no connection fails while endpoints change, the driver restarts and full syncs go on', async () => {
    await become(web('pod-1a', 'pod-2a'));
    const load = await node.lab.load('pod-1b', vip, 80, { fresh: 2, kept: 2 });
    for (let round = 0; round < 100; round++) {
      await become(web(round % 2 === 0 ? 'pod-1a' : 'pod-2a'));
      await become(web('pod-1a', 'pod-2a'));
      if (round % 25 === 0) {
        const driver = await node.restart();
        const found = await driver.dump();
        expect(found).toEqual(new Map([[current?.key, driver.visible(web('pod-1a', 'pod-2a'))]]));
        await driver.prune(found);
      }
      // The load runs in another process, and this one has the only processor otherwise.
      await new Promise((resolve) => setImmediate(resolve));
    }
    const report = await load.stop();
    expect(report.firstFailures).toEqual([]);
    expect(report.connections).toBeGreaterThan(10);
  });
});
