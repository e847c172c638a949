import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPrograms, objectDir } from '@octoplane/node/bpf/build.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Lab, type RunningLoad } from '../../support/lab/lab.ts';
import { generator } from './generator.ts';
import { EbpfNode, endpoint, entry, here, mountBpffs } from './node.ts';

/**
 * Endpoints change as fast as they can be programmed and read back, which is far more than a thousand times a second, and daemons
 * and programs are exchanged meanwhile. No request may fail, and none may reach a pod of the other service: both share the
 * array of backends, and ranges that one leaves go to the other.
 */
describe('under load', () => {
  let lab: Lab;
  let bpffs: ReturnType<typeof mountBpffs>;
  let node: EbpfNode;
  let loads: readonly (RunningLoad & { readonly may: readonly string[] })[];
  const otherVersion = mkdtempSync(join(tmpdir(), 'octoplane-bpf-'));
  const services = [
    {
      name: 'red',
      vip: '10.96.0.10',
      external: '198.51.100.1',
      nodePort: 30_080,
      pods: ['pod-1b', 'pod-2a', 'pod-2b'],
    },
    { name: 'blue', vip: '10.96.0.11', external: '198.51.100.2', nodePort: 30_081, pods: ['pod-1c', 'pod-2c'] },
  ] as const;
  const [red, blue] = services;
  const random = generator(11);

  beforeAll(async () => {
    lab = await Lab.create({ nodes: 2, families: ['IPv4'] });
    bpffs = mountBpffs(lab);
    buildPrograms({ outDir: otherVersion, force: true, defines: { CONNECTION_IDLE_SECONDS: 3600 } });
    node = new EbpfNode('node-1', { lab, bpffs: bpffs.path });
    await node.open();
    for (const pod of services.flatMap(({ pods }) => pods))
      for (const transport of ['TCP', 'UDP'] as const) await lab.serve(pod, 'IPv4', 8080, transport);
    await node.want(...entries());
    const own = lab.place('node-1').addresses.IPv4;
    const load = async (
      of: (typeof services)[number],
      from: string,
      to: string,
      port: number,
      transport: 'TCP' | 'UDP',
    ) => Object.assign(await lab.load(from, to, port, { transport, fresh: 1, kept: 1 }), { may: of.pods });
    loads = await Promise.all([
      load(red, 'pod-1a', red.vip, 80, 'TCP'),
      load(blue, 'pod-1a', blue.vip, 80, 'UDP'),
      load(blue, 'node-1', blue.vip, 80, 'TCP'),
      load(red, 'outside', red.external, 80, 'TCP'),
      load(blue, 'outside', own, blue.nodePort, 'TCP'),
      load(red, 'outside', own, red.nodePort, 'UDP'),
    ]);
    await lived();
  });
  afterAll(async () => {
    await node[Symbol.asyncDispose]();
    bpffs[Symbol.dispose]();
    await lab[Symbol.asyncDispose]();
    rmSync(otherVersion, { recursive: true });
  });

  /** Some pods of each service, never none. */
  function entries() {
    return services.flatMap(({ name, vip, external, nodePort, pods }) =>
      (['TCP', 'UDP'] as const).map((protocol) => {
        const chosen = pods.filter(() => random() % 2 === 0);
        const endpoints = (chosen.length === 0 ? [pods[random() % pods.length] ?? ''] : chosen).map((pod) =>
          endpoint(`${lab.place(pod).addresses.IPv4}:8080`, here),
        );
        return entry(name, { protocol, clusterIps: [vip], externalIps: [external], nodePort, endpoints });
      }),
    );
  }

  /** Every load has made enough requests to have met what just happened. */
  const lived = () => Promise.all(loads.map((load) => load.more(100)));

  /** Returns how many service ports had other endpoints than before, each time. */
  async function churn(rounds: number): Promise<number> {
    let changes = 0;
    for (let i = 0; i < rounds; i++) changes += await node.want(...entries());
    return changes;
  }

  it('endpoints change 4,000 times', async () => {
    expect(await churn(2000)).toBeGreaterThan(4000);
    await lived();
  });

  it('daemons come and go, each time with another version of the programs', async () => {
    const programs = new Set<string>();
    for (const objects of [otherVersion, objectDir, otherVersion]) {
      await node.close();
      await lived();
      await node.open(objects);
      programs.add(node.attachedPrograms());
      await churn(200);
      await lived();
    }
    expect(programs.size).toBe(2);
  });

  it('and no request has failed or gone astray', async () => {
    for (const load of loads) {
      const { may, ...report } = { may: load.may, ...(await load.stop()) };
      expect(report.firstFailures).toEqual([]);
      for (const pod of Object.keys(report.answers)) expect(may).toContain(pod);
    }
  });
});
