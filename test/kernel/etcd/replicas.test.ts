import { Allocator } from '@octoplane/controller/allocate/allocator.ts';
import { Compute } from '@octoplane/controller/compute/compute.ts';
import { EtcdStore } from '@octoplane/controller/sources/etcd/etcd-store.ts';
import { ClusterState } from '@octoplane/controller/state/cluster-state.ts';
import { expect, onTestFinished, test } from 'vitest';
import { Child } from '../../support/stub-nodes/child.ts';
import { controllerOptions } from '../../support/stub-nodes/controller-options.ts';
import type { ControllerReport, ControllerRequest } from '../../support/stub-nodes/controller-process.ts';
import type { FleetReport, FleetRequest } from '../../support/stub-nodes/fleet-process.ts';
import { EtcdServer, freePorts } from './etcd-server.ts';
import { Watcher } from './watcher.ts';
import { service, slice, Writer } from './writer.ts';

/** OCTOPLANE_TEST_CHAOS_SECONDS=120 for the long run. */
const chaosMs = Number(process.env['OCTOPLANE_TEST_CHAOS_SECONDS'] ?? 8) * 1000;
const nodes = 200;
const services = 20;
const signal = new AbortController().signal;

/** A controller in a process of its own that can be killed, and started again at the same port. */
class Replica {
  readonly address: string;
  readonly #etcd: string;
  #child: Child<ControllerRequest, ControllerReport> | null = null;

  constructor(port: number, etcd: string) {
    this.address = `127.0.0.1:${port}`;
    this.#etcd = etcd;
  }

  async start(): Promise<void> {
    const options = controllerOptions({
      sources: [{ name: 'etcd', kind: 'etcd', target: this.#etcd }],
      listen: this.address,
    });
    this.#child = new Child('./controller-process.ts');
    await this.#child.ask({ t: 'start', options, logLevel: 'error' }, 'listening');
  }

  async kill(): Promise<void> {
    await this.#child?.kill();
    this.#child = null;
  }
}

test(
  'two replicas, killed at random while everything changes: every node ends right, and nothing is sent twice',
  async () => {
    await using etcd = await EtcdServer.start();
    using writer = new Writer(etcd.url);
    const store = new EtcdStore(writer.client, [{ ip: '10.96.0.0', length: 16 }], Date.now);
    const names = Array.from({ length: services }, (_, i) => `s-${i}`);
    const endpoints = () =>
      Array.from(
        { length: 1 + Math.floor(Math.random() * 5) },
        (_, i) => `10.244.${Math.floor(Math.random() * 9)}.${i + 1}`,
      );
    for (const name of names) {
      await store.apply(service(name), signal);
      await store.apply(slice(name, ...endpoints()), signal);
    }
    const ports = await freePorts(2);
    const replicas = ports.map((port) => new Replica(port, etcd.url));
    const fleet = new Child<FleetRequest, FleetReport>('./fleet-process.ts');
    onTestFinished(async () => {
      await fleet.kill();
      for (const replica of replicas) await replica.kill();
    });
    await Promise.all(replicas.map((replica) => replica.start()));
    const [first, second] = replicas;
    if (!first || !second) throw new Error('two replicas');
    const planned = fleet.next('planned');
    fleet.send({ t: 'start', address: first.address, others: [second.address], nodes, zones: [''], tls: null });
    await planned;

    const until = Date.now() + chaosMs;
    const churn = async (): Promise<void> => {
      while (Date.now() < until) {
        const name = names[Math.floor(Math.random() * names.length)] ?? '';
        // Foreign keys, too: revisions grow without anything to tell.
        const dice = Math.random();
        if (dice < 0.3) await writer.put('/not/ours', 'x');
        else if (dice < 0.37) await store.delete({ kind: 'Service', name: `default/${name}` }, signal);
        else if (dice < 0.55) await store.apply(service(name, 80 + Math.floor(Math.random() * 3)), signal);
        else await store.apply(slice(name, ...endpoints()), signal);
        await pause(20);
      }
    };
    const kill = async (): Promise<void> => {
      while (Date.now() < until) {
        const replica = replicas[Math.floor(Math.random() * 2)] ?? first;
        await replica.kill();
        await pause(Math.random() * 500);
        await replica.start();
        await pause(500 + Math.random() * 1500);
      }
    };
    await Promise.all([churn(), kill()]);

    const digest = await digestOf(etcd.url);
    await settled(fleet, digest, replicas);

    // Nothing changes any more. Whoever loses its controller resumes at the other with a plan that says so, and no rules.
    for (const replica of replicas) {
      fleet.send({ t: 'forget plans' });
      const before = await fleet.ask({ t: 'count' }, 'counts');
      // The one that was started last may have no node yet: they stay where they are. The other then has them all.
      const moving = before.planned[replica.address] ?? 0;
      await replica.kill();
      await settled(
        fleet,
        digest,
        replicas.filter((other) => other !== replica),
      );
      const { plans, receivedBytes } = await fleet.ask({ t: 'count' }, 'counts');
      expect(Object.keys(plans)).toEqual(moving > 0 ? ['1'] : []);
      expect(receivedBytes - before.receivedBytes).toBeLessThanOrEqual(moving * 150);
      await replica.start();
    }
  },
  120_000 + chaosMs,
);

/** What every node has to have, computed from what is in etcd now. */
async function digestOf(url: string): Promise<string> {
  await using watcher = new Watcher({ urls: url });
  await watcher.until(({ synced }) => synced !== null);
  const compute = new Compute(new ClusterState({ sources: ['etcd'], allocator: new Allocator({ serviceCidrs: [] }) }));
  compute.apply('etcd', watcher.events);
  return compute.classSums('-').total.toString(16);
}

/** Every node has its plan from one of these controllers, and holds what it should. Who is not says what there is instead. */
async function settled(fleet: Child<FleetRequest, FleetReport>, digest: string, at: readonly Replica[]): Promise<void> {
  const giveUp = Date.now() + 30_000;
  for (;;) {
    const { planned, digests } = await fleet.ask({ t: 'count' }, 'counts');
    const sum = at.reduce((all, { address }) => all + (planned[address] ?? 0), 0);
    if (sum === nodes && digests.length === 1 && digests[0] === digest) return;
    if (Date.now() > giveUp) expect({ planned, digests }).toEqual({ planned: nodes, digests: [digest] });
    await pause(100);
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
