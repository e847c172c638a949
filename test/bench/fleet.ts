import { mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';
import {
  AdminServiceClient,
  type ListHistoryResponse,
  WaitRequest,
  type WaitResponse,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import type { InputRevision } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { Security } from '../../services/controller/options.ts';
import { Child } from '../support/stub-nodes/child.ts';
import type { ControllerReport, ControllerRequest } from '../support/stub-nodes/controller-process.ts';
import type { FleetReport, FleetRequest } from '../support/stub-nodes/fleet-process.ts';
import { TestAuthority, writeTlsFiles } from '../support/stub-nodes/pki.ts';
import { syntheticService, syntheticSlices } from '../support/synthetic.ts';
import type { Benchmark, Report } from './benchmark.ts';

type ControllerChild = Child<ControllerRequest, ControllerReport>;
type FleetChild = Child<FleetRequest, FleetReport>;

/** Small, because thousands of stubs live in one process: what is measured is the protocol, and a change costs what it changes. */
const cluster = { services: 20, endpoints: 10, nodes: 3, zones: 3 };
const zones = ['zone-0', 'zone-1', 'zone-2'];
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
    stubs.send({ t: 'start', address: controller.address, nodes, zones, tls });
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
      latenciesMs.push(await convergenceMs(client, revision, signal));
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
      options: {
        sources: [{ name: 'file', kind: 'file', target: manifests }],
        listen: '127.0.0.1:0',
        http: '127.0.0.1:0',
        serviceCidrs: [],
        stateDir: null,
        settleMs: 0,
        kubeconfig: null,
        gateClients: [],
        security,
        release: 'bench',
      },
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

/** Waits until so many nodes have the newest version. */
async function programmedEverywhere(client: AdminServiceClient, nodes: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    const last = await waitFor(client, signal);
    if (last.nodes >= nodes) return;
  }
}

/** Commit to last ack of the newest change, once the directory has been read up to `revision` and everybody has it. */
async function convergenceMs(client: AdminServiceClient, revision: number, signal: AbortSignal): Promise<number> {
  await waitFor(client, signal, [{ source: 'file', incarnation: '', revision }]);
  const { changes: records } = await new Promise<ListHistoryResponse>((resolve, reject) =>
    client.listHistory({ limit: 1, service: '' }, (error, response) => (error ? reject(error) : resolve(response))),
  );
  return (records[0]?.convergence?.p100Us ?? 0) / 1000;
}

async function waitFor(
  client: AdminServiceClient,
  signal: AbortSignal,
  inputs: readonly InputRevision[] = [],
): Promise<WaitResponse> {
  const call = client.wait({ ...WaitRequest.create(), inputs: [...inputs] });
  const cancel = () => call.cancel();
  signal.addEventListener('abort', cancel);
  try {
    let last: WaitResponse | null = null;
    for await (const report of call as AsyncIterable<WaitResponse>) last = report;
    if (last === null) throw new Error('a wait without a report');
    return last;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}

function writeCluster(manifests: string): void {
  mkdirSync(manifests);
  const items = Array.from({ length: cluster.services }, (_, i) => [
    syntheticService(i, cluster),
    ...(i === 0 ? [] : syntheticSlices(i, cluster)),
  ]).flat();
  put(manifests, 'cluster.json', items);
  changeOneEndpoint(manifests, -1);
}

/** Adds an endpoint to the first Service, or takes it away again. Returns the revision of the change. */
function changeOneEndpoint(manifests: string, i: number): number {
  return put(manifests, 'svc-0.json', syntheticSlices(0, cluster, cluster.endpoints + (i & 1 ? 0 : 1)));
}

function put(manifests: string, name: string, items: readonly object[]): number {
  const file = join(manifests, name);
  writeFileSync(`${file}.new`, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
  renameSync(`${file}.new`, file);
  return Number(statSync(file, { bigint: true }).mtimeNs / 1000n);
}
