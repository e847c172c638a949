import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { changeOf, entryOf, NodeLab } from './on-node.ts';

const families = ['IPv4', 'IPv6'] as const;
const vip = { IPv4: '10.96.0.10', IPv6: 'fd00:96::10' };

describe('a ClusterIP', () => {
  let node: NodeLab;
  beforeAll(async () => {
    node = await NodeLab.create();
    await node.driver.dump();
  });
  afterAll(() => node[Symbol.asyncDispose]());

  for (const transport of ['TCP', 'UDP'] as const) {
    for (const family of families) {
      it(`balances ${transport} over ${family}, from pods, the node and outside`, async () => {
        const { lab } = node;
        const pods = ['pod-1a', 'pod-2a'];
        for (const pod of pods) await lab.serve(pod, family, 8080, transport);
        const endpoints = pods.map((pod) => `${lab.place(pod).addresses[family]}:8080`);
        const entry = entryOf(`default/web:80/${transport}`, { clusterIps: [vip[family]] }, endpoints);
        await node.apply(changeOf(null, entry));
        for (const client of ['pod-1b', 'pod-1a', 'node-1', 'outside']) {
          const tally = await lab.dialMany(client, vip[family], 80, {
            transport,
            until: pods,
            atLeast: 10,
            atMost: 20,
          });
          expect(tally.failures, client).toEqual([]);
          expect(Object.keys(tally.answers).sort(), client).toEqual(pods);
        }
        expect(await node.driver.dump()).toEqual(new Map([[entry.key, node.driver.visible(entry)]]));
        await node.apply(changeOf(entry, null));
        expect(await lab.dial('pod-1b', vip[family], 80, { transport, timeoutMs: 300 })).not.toMatchObject({
          t: 'answered',
        });
      });
    }
  }
});
