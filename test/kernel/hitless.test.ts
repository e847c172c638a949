import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cluster } from '../support/lab/cluster.ts';
import { Lab, type RunningLoad } from '../support/lab/lab.ts';
import { serviceManifest, sliceManifest } from '../support/lab/manifests.ts';
import { describeEachDriver } from '../support/scenarios/each-driver.ts';

/**
 * Clients that open connections and make requests without pause, on connections that they keep and on new ones, in a pod, on a
 * node and outside, see no failure whatever happens to the rules and to the programs that write them.
 */
const services = 20;
const rounds = 50;
/** Enough to always have a request under way; more would only take the processor from the daemons. */
const workers = { fresh: 2, kept: 1 };
const pods = ['pod-1a', 'pod-1c', 'pod-2a', 'pod-2c', 'pod-3a', 'pod-3c'];
const vip = (i: number) => `10.96.1.${i}`;
const ports = [
  { name: 'tcp', port: 8080 },
  { name: 'udp', port: 8080, protocol: 'UDP' },
];

await describeEachDriver((driver) => {
  let lab: Lab;
  let cluster: Cluster;
  let loads: readonly RunningLoad[];

  beforeAll(async () => {
    lab = await Lab.create({ families: ['IPv4'] });
    cluster = await Cluster.start(lab, { driver });
    for (const pod of pods) {
      await lab.serve(pod, 'IPv4', 8080);
      await lab.serve(pod, 'IPv4', 8080, 'UDP');
    }
    for (let i = 0; i < services; i++) {
      const nodePorts = [
        { name: 'tcp', port: 80, nodePort: 30_100 + i },
        { name: 'udp', port: 80, protocol: 'UDP', nodePort: 30_100 + i },
      ];
      cluster.source.put(serviceManifest(`load-${i}`, { type: 'NodePort', clusterIP: vip(i), ports: nodePorts }));
      cluster.source.put(sliceManifest(lab, `load-${i}`, pods, ports));
    }
    await cluster.settled();
    const node = lab.place('node-1').addresses.IPv4;
    loads = await Promise.all([
      lab.load('pod-1b', vip(0), 80, workers),
      lab.load('pod-1b', vip(1), 80, { transport: 'UDP', fresh: 2, kept: 0 }),
      lab.load('node-1', vip(2), 80, workers),
      lab.load('pod-2b', vip(3), 80, workers),
      lab.load('outside', node, 30_104, workers),
    ]);
    await lived(loads);
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  it(`${services * rounds} endpoint changes`, async () => {
    for (let round = 0; round < rounds; round++) {
      // One endpoint is left out, another one every time; its server goes on serving the connections that it has.
      const left = pods.filter((_, i) => i !== round % pods.length);
      for (let i = 0; i < services; i++) cluster.source.put(sliceManifest(lab, `load-${i}`, left, ports));
      await cluster.settled();
    }
    await lived(loads);
  }, 300_000);

  it('the daemon of the node is killed and started again', async () => {
    await cluster.node('node-1').stop('SIGKILL');
    await lived(loads);
    cluster.node('node-1').start();
    await cluster.settled();
    await lived(loads);
  });

  it('the controller is killed and started again', async () => {
    await cluster.controller.stop('SIGKILL');
    await lived(loads);
    cluster.controller.start();
    cluster.source.put(sliceManifest(lab, 'load-0', pods, ports));
    await cluster.settled();
    await lived(loads);
  });

  it('every daemon ends as it should and is started again', async () => {
    const codes = await Promise.all(
      [cluster.controller, ...lab.nodes.map(({ name }) => cluster.node(name))].map((each) => each.stop()),
    );
    expect(codes).toEqual(codes.map(() => 0));
    await lived(loads);
    cluster.controller.start();
    for (const { name } of lab.nodes) cluster.node(name).start();
    await cluster.settled();
    await lived(loads);
  });

  describe('in the end', () => {
    it('no request has failed', async () => {
      const reports = await Promise.all(loads.map((load) => load.stop()));
      expect(reports.map(({ failures, firstFailures }) => ({ failures, firstFailures }))).toEqual(
        reports.map(() => ({ failures: 0, firstFailures: [] })),
      );
    });
  });
});

/** Every load has made enough requests to have met what just happened. */
const lived = (loads: readonly RunningLoad[]): Promise<unknown> => Promise.all(loads.map((load) => load.more(200)));
