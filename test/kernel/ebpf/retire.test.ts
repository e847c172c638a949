import type { Connection } from '@octoplane/node/drivers/driver.ts';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Lab } from '../../support/lab/lab.ts';
import { EbpfNode, endpoint, entry, here, mountBpffs } from './node.ts';

/** Another driver has taken over: what began here goes on, and nothing else begins. */
const vip = '10.96.0.10';
const nodePort = 30_080;
let lab: Lab;
let bpffs: ReturnType<typeof mountBpffs>;
let node: EbpfNode;

beforeAll(async () => {
  lab = await Lab.create({ nodes: 1, podsPerNode: 2, families: ['IPv4'] });
  bpffs = mountBpffs(lab);
  node = new EbpfNode('node-1', { lab, bpffs: bpffs.path });
  await node.open();
  for (const transport of ['TCP', 'UDP'] as const) await lab.serve('pod-1a', 'IPv4', 8080, transport);
  const endpoints = [endpoint(`${lab.place('pod-1a').addresses.IPv4}:8080`, here)];
  const frontends = { clusterIps: [vip], nodePort, endpoints };
  await node.want(entry('web', { ...frontends, protocol: 'TCP' }), entry('dns', { ...frontends, protocol: 'UDP' }));
});
afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
  bpffs?.[Symbol.dispose]();
  await lab?.[Symbol.asyncDispose]();
});

it('keeps what it has, begins nothing, tells of sockets, and leaves with the last flow', async () => {
  const address = lab.place('node-1').addresses.IPv4;
  const kept = [
    await lab.open('outside', address, nodePort),
    await lab.open('outside', address, nodePort, { transport: 'UDP', connected: true }),
    await lab.open('pod-1b', vip, 80),
    await lab.open('pod-1b', vip, 80, { transport: 'UDP', connected: true }),
  ];
  for (const flow of kept) expect(await flow.ask()).toMatchObject({ t: 'answered', by: 'pod-1a' });

  const told: Connection[] = [];
  const retired = await lab.within('node-1', () => node.driver.retire((connections) => told.push(...connections)));
  if (!retired) throw new Error('it has connections');
  const [source, destination] = ['pod-1b', 'pod-1a'].map((pod) => lab.place(pod).addresses.IPv4);
  for (const protocol of ['TCP', 'UDP'] as const)
    expect(told).toContainEqual(
      expect.objectContaining({ protocol, source, destination, destinationPort: 8080, sourcePort: expect.any(Number) }),
    );
  for (const flow of kept) expect(await flow.ask()).toMatchObject({ t: 'answered', by: 'pod-1a' });
  // Nobody has taken over here, so what is new goes nowhere.
  for (const [at, ip, port] of [
    ['outside', address, nodePort],
    ['pod-1b', vip, 80],
  ] as const)
    expect((await lab.dial(at, ip, port, { timeoutMs: 300 })).t).not.toBe('answered');

  expect(await retired.ended()).toBe(false);
  for (const flow of kept) await flow[Symbol.asyncDispose]();
  // The closed one is remembered for a minute, the datagrams for three.
  const inSeconds = (seconds: number) => process.hrtime.bigint() + BigInt(seconds) * 1_000_000_000n;
  expect(await retired.ended(inSeconds(150))).toBe(false);
  expect(await retired.ended(inSeconds(200))).toBe(true);
});
