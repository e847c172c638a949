import { EndpointCondition_State } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Cluster, controllerHttpPort } from '../support/lab/cluster.ts';
import { httpGet } from '../support/lab/http.ts';
import { Lab, type RunningLoad } from '../support/lab/lab.ts';
import { serviceManifest, sliceManifest } from '../support/lab/manifests.ts';
import { describeEachDriver } from '../support/scenarios/each-driver.ts';

/**
 * Every endpoint of a Service is replaced while clients open connections without pause. With the gates no request fails, although one of the nodes
 * stands still in the middle of it. Without them the same replacement fails requests: so this test can tell.
 */
const vip = '10.96.0.10';
const ports = [{ port: 8080 }];
const first = ['pod-1a', 'pod-2a', 'pod-3a'];
const second = ['pod-1c', 'pod-2c', 'pod-3c'];
/** The node whose daemon stands still. */
const frozen = 'node-2';

await describeEachDriver((driver) => {
  let lab: Lab;
  let cluster: Cluster;

  beforeAll(async () => {
    lab = await Lab.create({ families: ['IPv4'] });
    cluster = await Cluster.start(lab, { driver });
    cluster.source.put(
      serviceManifest('web', { type: 'NodePort', clusterIP: vip, ports: [{ port: 80, nodePort: 30_080 }] }),
    );
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  const endpointOf = (pod: string) => `${lab.place(pod).addresses.IPv4}:8080`;
  const put = (pods: readonly string[], ending: readonly string[] = []) =>
    cluster.source.put(sliceManifest(lab, 'web', pods, ports, { ending }));

  async function serving(pods: readonly string[]): Promise<readonly RunningLoad[]> {
    for (const pod of pods) await lab.serve(pod, 'IPv4', 8080);
    put(pods);
    await cluster.settled();
    const clients = { fresh: 2, kept: 0 };
    const loads = [
      await lab.load('pod-1b', vip, 80, clients),
      await lab.load('pod-2b', vip, 80, clients),
      await lab.load('node-2', vip, 80, clients),
      await lab.load('outside', lab.place('node-1').addresses.IPv4, 30_080, clients),
    ];
    await lived(loads);
    return loads;
  }

  /** From the pod itself, as its preStop hook asks. */
  const gate = (pod: string, path: string) =>
    httpGet(lab.place(pod), lab.place('brain').addresses.IPv4, controllerHttpPort, path);

  it('with the gates no request fails', async () => {
    const loads = await serving(first);
    let pods = first;
    for (const [i, old] of first.entries()) {
      const fresh = second[i] ?? '';
      await lab.serve(fresh, 'IPv4', 8080);
      pods = [...pods, fresh];
      put(pods);
      const endpoint = { address: endpointOf(fresh), state: EndpointCondition_State.PROGRAMMED };
      expect(await cluster.wait({ service: 'default/web', endpoint }, 20_000)).toMatchObject({ done: true, nodes: 3 });

      const isMiddle = old === 'pod-2a';
      if (isMiddle) cluster.node(frozen).signal('SIGSTOP');
      pods = pods.filter((pod) => pod !== old);
      put([...pods, old], [old]);
      const gone = gate(old, '/gone?port=8080&timeout=30s');
      if (isMiddle) {
        const late = octoplane('wait', '--gone', endpointOf(old), '--timeout', '1s');
        expect(late).toMatchObject({ status: 1, stdout: '' });
        expect(late.stderr).toMatch(
          new RegExp(`is gone on 2 of 3 nodes after 1 s\n.*\n${frozen} +\\d+ +slow: owes version`),
        );
        await lived(loads);
        cluster.node(frozen).signal('SIGCONT');
      }
      expect(await gone).toMatchObject({ status: 200, body: `gone: ${endpointOf(old)} on 3 of 3 nodes\n` });
      await lab.retire(old, 'IPv4', 8080);
      put(pods);
      await lived(loads);
    }
    expect(await failuresOf(loads)).toEqual([0, 0, 0, 0]);
  });

  it('without them it fails requests of the node that stands still', async () => {
    const loads = await serving(second);
    cluster.node(frozen).signal('SIGSTOP');
    const [old = '', ...rest] = second;
    put([...rest, old], [old]);
    await cluster.settled({ nodes: ['node-1', 'node-3'] });
    await lab.retire(old, 'IPv4', 8080);
    await lived(loads);
    cluster.node(frozen).signal('SIGCONT');
    const [other, onFrozen = 0] = await failuresOf(loads);
    expect(onFrozen).toBeGreaterThan(0);
    expect(other).toBe(0);
    await cluster.settled();
  });

  it('an endpoint may ask about itself, and about no other', async () => {
    const answer = await gate('pod-1b', `/gone?endpoint=${endpointOf('pod-1c')}`);
    expect(answer.status).toBe(403);
    expect(answer.body).toContain('an endpoint may ask about itself');
  });

  const octoplane = (...args: readonly string[]) =>
    cluster.octoplane([...args, '--insecure', '--insecure-allow-remote']);
});

/** Every client has made enough requests to have met each endpoint that it is sent to. */
const lived = (loads: readonly RunningLoad[]): Promise<unknown> => Promise.all(loads.map((load) => load.more(60)));

const failuresOf = async (loads: readonly RunningLoad[]): Promise<readonly number[]> =>
  (await Promise.all(loads.map((load) => load.stop()))).map(({ failures }) => failures);
