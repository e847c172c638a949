import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';
import { AdminServiceClient } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import type { Security } from '../../services/controller/options.ts';
import { Child } from '../support/stub-nodes/child.ts';
import { controllerOptions } from '../support/stub-nodes/controller-options.ts';
import type { ControllerReport, ControllerRequest } from '../support/stub-nodes/controller-process.ts';
import { arrivedChange, programmedEverywhere } from '../support/stub-nodes/fleet-admin.ts';
import { changeOneEndpoint, fleetZones, writeCluster } from '../support/stub-nodes/fleet-manifests.ts';
import type { FleetReport, FleetRequest } from '../support/stub-nodes/fleet-process.ts';
import { TestAuthority, writeTlsFiles } from '../support/stub-nodes/pki.ts';
import type { Benchmark, Report } from './benchmark.ts';

type ControllerChild = Child<ControllerRequest, ControllerReport>;
type FleetChild = Child<FleetRequest, FleetReport>;

const changes = 20;

/**
 * Thousands of stub nodes, each on its own TLS connection, on one controller: controller and stubs are two processes that share the
 * machine. `-- fleet [NODES ...] [--plaintext]`.
 */
export const fleet: Benchmark = {
  name: 'fleet',
  summary: '1,000 and 5,000 stub nodes on one controller: convergence, CPU, bytes and memory per node, restart',
  async run(report, signal, args) {
    const sizes = args.filter((arg) => /^\d+$/.test(arg)).map(Number);
    for (const nodes of sizes.length > 0 ? sizes : [1000, 5000])
      await measure({ nodes, isPlain: args.includes('--plaintext'), report, signal });
  },
};

interface Measuring {
  readonly nodes: number;
  readonly isPlain: boolean;
  readonly report: Report;
  readonly signal: AbortSignal;
}

async function measure({ nodes, isPlain, report, signal }: Measuring): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'octoplane-fleet-'));
  const authority = await TestAuthority.create();
  const security: Security = isPlain
    ? { t: 'insecure', allowRemote: false }
    : { t: 'mtls', files: writeTlsFiles(join(directory, 'tls'), await authority.server(), authority.cert) };
  const manifests = join(directory, 'manifests');
  const name = `${nodes.toLocaleString('en-US')} nodes, ${isPlain ? 'plaintext' : 'mTLS'}`;
  const figure = (metric: string, value: number, unit: string, budget?: number) =>
    report({ case: name, metric, value, unit, ...(budget === undefined ? {} : { budget }) });
  writeCluster(manifests);

  const stubs: FleetChild = new Child('./fleet-process.ts');
  let controller = await startController(manifests, security);
  try {
    const empty = await controller.child.ask({ t: 'usage' }, 'usage');
    const tls = isPlain
      ? null
      : {
          ca: authority.cert,
          nodes: await Promise.all(Array.from({ length: nodes }, (_, i) => authority.node(`node-${i}`))),
        };
    stubs.send({ t: 'start', address: controller.address, nodes, zones: fleetZones, tls });
    const { afterMs } = await stubs.next('planned', signal);
    figure('all connected and planned, from nothing', afterMs / 1000, 's');
    const client = await adminOf(controller.address, authority, isPlain);
    await programmedEverywhere(client, nodes, signal);
    const full = await controller.child.ask({ t: 'usage' }, 'usage');
    figure('controller RSS per node', (full.rssBytes - empty.rssBytes) / nodes / 1024, 'KB', isPlain ? undefined : 100);
    figure('controller RSS', full.rssBytes / 1024 / 1024, 'MB');

    const before = await stubs.ask({ t: 'count' }, 'counts');
    const latenciesMs: number[] = [];
    for (let i = 0; i < changes && !signal.aborted; i++) {
      const revision = changeOneEndpoint(manifests, i);
      const { convergence } = await arrivedChange(client, revision, signal);
      latenciesMs.push((convergence?.p100Us ?? 0) / 1000);
    }
    const after = await stubs.ask({ t: 'count' }, 'counts');
    const used = await controller.child.ask({ t: 'usage' }, 'usage');
    latenciesMs.sort((a, b) => a - b);
    figure('commit to last programmed ack, median', latenciesMs[changes >> 1] ?? 0, 'ms', 500);
    figure('commit to last programmed ack, worst', latenciesMs.at(-1) ?? 0, 'ms');
    figure('controller CPU per node and change', ((used.cpuMs - full.cpuMs) * 1000) / nodes / changes, 'µs');
    figure('stubs CPU per node and change', ((after.cpuMs - before.cpuMs) * 1000) / nodes / changes, 'µs');
    figure('bytes per node and change', (after.receivedBytes - before.receivedBytes) / nodes / changes, 'bytes', 120);
    client.close();

    await controller.child.kill();
    controller = await startController(manifests, security);
    stubs.send({ t: 'move', address: controller.address });
    const back = await stubs.next('planned', signal);
    const resumed = await stubs.ask({ t: 'count' }, 'counts');
    figure('all in sync after a restart of the controller', back.afterMs / 1000, 's', 20);
    figure('snapshots and repairs after it', (resumed.plans[3] ?? 0) + (resumed.plans[4] ?? 0), 'plans', 0);
    figure('bytes per node after it', (resumed.receivedBytes - after.receivedBytes) / nodes, 'bytes');
    if (resumed.digests.length !== 1) throw new Error(`nodes hold ${resumed.digests.length} different rule sets`);
  } finally {
    await Promise.all([controller.child.kill(), stubs.kill()]);
    rmSync(directory, { recursive: true });
  }
}

async function startController(manifests: string, security: Security) {
  const child: ControllerChild = new Child('./controller-process.ts', { execArgv: ['--expose-gc'] });
  const ports = await child.ask(
    {
      t: 'start',
      logLevel: 'error',
      options: controllerOptions({
        sources: [{ name: 'file', kind: 'file', target: manifests }],
        security,
        release: 'bench',
      }),
    },
    'listening',
  );
  return { child, address: `127.0.0.1:${ports.grpc}` };
}

async function adminOf(address: string, authority: TestAuthority, isPlain: boolean): Promise<AdminServiceClient> {
  const { cert, key } = await authority.admin('bench');
  const using: ChannelCredentials = isPlain
    ? credentials.createInsecure()
    : credentials.createSsl(Buffer.from(authority.cert), Buffer.from(key), Buffer.from(cert));
  return new AdminServiceClient(address, using);
}
