import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cluster } from '../support/lab/cluster.ts';
import { Lab } from '../support/lab/lab.ts';
import { serviceManifest, sliceManifest } from '../support/lab/manifests.ts';

/**
 * Who is a pod, and may keep its address on the way to a cluster IP (P35): told by the interface that packets come in by. The lab's nodes
 * call the device of a pod by the pod's name. The daemons have --cluster-cidr, too, which does not count then.
 *
 * Not on eBPF, which connects the sockets of all pods of the node directly, so that there is nothing to masquerade.
 */
const vip = '10.96.0.10';

describe.each(['nftables', 'iptables'])('%s', (driver) => {
  let lab: Lab;
  let cluster: Cluster;
  beforeAll(async () => {
    lab = await Lab.create({ nodes: 2, families: ['IPv4'] });
    cluster = await Cluster.start(lab, { driver, nodeFlags: ['--detect-local', 'prefix:pod-'] });
    await lab.serve('pod-2a', 'IPv4', 8080);
    cluster.source.put(serviceManifest('web', { clusterIP: vip, ports: [{ port: 80 }] }));
    cluster.source.put(sliceManifest(lab, 'web', ['pod-2a'], [{ port: 8080 }]));
    await cluster.settled();
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  const seenAs = async (from: string) => {
    const outcome = await lab.dial(from, vip, 80);
    return outcome.t === 'answered' ? outcome.seenAs.ip : outcome.t;
  };
  const ip = (place: string) => lab.place(place).addresses.IPv4;

  it('by the beginning of its name', async () => {
    expect(await seenAs('pod-1a')).toBe(ip('pod-1a'));
    expect(await seenAs('node-1')).toBe(ip('node-1'));
    expect(await seenAs('outside')).toBe(ip('node-1'));
  });

  it('by its whole name, which here only one pod has', async () => {
    await cluster.restartNodes(['--detect-local', 'bridge:pod-1a']);
    await cluster.settled();
    expect(await seenAs('pod-1a')).toBe(ip('pod-1a'));
    expect(await seenAs('pod-1b')).toBe(ip('node-1'));
    expect(await seenAs('outside')).toBe(ip('node-1'));
  });
});
