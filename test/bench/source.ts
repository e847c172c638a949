import { readFileSync } from 'node:fs';
import { parseEndpoints } from '@octoplane/controller/sources/etcd/endpoints.ts';
import { EtcdClient } from '@octoplane/controller/sources/etcd/etcd-client.ts';
import { keyOf } from '@octoplane/controller/sources/etcd/layout.ts';
import type { RequestOp } from '@octoplane/model/gen/etcd/etcdserverpb/rpc.ts';
import { EtcdServer } from '../kernel/etcd/etcd-server.ts';
import {
  type ClusterSize,
  clusterNodes,
  clusterServices,
  clusterSlice,
  clusterSlices,
} from '../support/kube-api/cluster-data.ts';
import { KubeconfigFile } from '../support/kube-api/kubeconfig-file.ts';
import type { ServerReport, ServerRequest } from '../support/kube-api/server-process.ts';
import { Child } from '../support/stub-nodes/child.ts';
import { controllerOptions } from '../support/stub-nodes/controller-options.ts';
import type { ControllerReport, ControllerRequest } from '../support/stub-nodes/controller-process.ts';
import type { Manifest } from '../support/synthetic.ts';
import type { Benchmark, Report } from './benchmark.ts';
import type { SourceReport, SourceRequest } from './source-child.ts';

type ServerChild = Child<ServerRequest, ServerReport>;
type SourceChild = Child<SourceRequest, SourceReport>;

/** 10,000 Services and 100,000 EndpointSlices of 10 endpoints: twice what Kubernetes says it is made for. */
const full: ClusterSize = { services: 10_000, slicesPerService: 10, endpointsPerSlice: 10, nodes: 1_000 };
/** As in the first line of services/cli/main.ts. */
const asShipped = ['--max-semi-space-size=2'];
const changes = 20_000;
const proxies = 5_000;

/**
 * A source alone, and the controller with it, against a cluster that is in another process: a real etcd, or the stand-in for an API server.
 * `-- source [kubernetes|etcd|controller ...] [--services N]`.
 */
export const source: Benchmark = {
  name: 'source',
  summary:
    '10,000 Services and 100,000 EndpointSlices from etcd and from an API server: in sync, memory, events a second',
  async run(report, _signal, args) {
    const at = args.indexOf('--services');
    const size = at < 0 ? full : { ...full, services: Number(args[at + 1]) };
    const named = ['kubernetes', 'etcd', 'controller'].filter((name) => args.includes(name));
    const wants = (name: string) => named.length === 0 || named.includes(name);
    if (wants('kubernetes')) {
      await fromApiServer('API server, streamed lists', { size, watchList: true, report });
      await fromApiServer('API server, pages, gzip', { size, watchList: false, report });
    }
    if (wants('etcd')) await fromEtcd(size, report);
    if (wants('controller')) await wholeController(size, report);
  },
};

interface Measuring {
  readonly size: ClusterSize;
  readonly watchList: boolean;
  readonly report: Report;
}

async function fromApiServer(name: string, { size, watchList, report }: Measuring): Promise<void> {
  const server: ServerChild = new Child('../kube-api/server-process.ts');
  const child: SourceChild = new Child('../../bench/source-child.ts', { execArgv: asShipped });
  try {
    const { url } = await server.ask({ t: 'start', size, watchList }, 'listening');
    using config = new KubeconfigFile({ bench: { server: url } });
    const before = await server.ask({ t: 'usage' }, 'usage');
    const synced = await child.ask({ t: 'start', kind: 'kubernetes', kubeconfig: config.path }, 'synced');
    const listed = await server.ask({ t: 'usage' }, 'usage');
    inSync(name, synced, report);
    report({
      case: name,
      metric: 'bytes that the API server sends to be in sync',
      value: (listed.bytesWritten - before.bytesWritten) / 1e6,
      unit: 'MB',
    });
    report({ case: name, metric: 'requests for it', value: total(listed.requests), unit: 'requests' });
    const start = await child.ask({ t: 'reach', revision: 0 }, 'reached');
    const churned = await server.ask({ t: 'churn', changes, round: 1 }, 'churned');
    const end = await child.ask({ t: 'reach', revision: churned.revision }, 'reached');
    absorbed(name, start, end, report);
    const after = await server.ask({ t: 'usage' }, 'usage');
    const bytes = (after.bytesWritten - listed.bytesWritten) / changes;
    const one = { case: `${name}: one endpoint changed` };
    report({ ...one, metric: 'bytes that the API server sends to one watcher', value: bytes, unit: 'bytes' });
    report({ ...one, metric: `to ${proxies} kube-proxies, computed`, value: (bytes * proxies) / 1e6, unit: 'MB' });
    if (after.complaints.length > 0) throw new Error(`the stand-in complains: ${after.complaints[0]}`);
  } finally {
    await Promise.all([child.kill(), server.kill()]);
  }
}

async function fromEtcd(size: ClusterSize, report: Report): Promise<void> {
  const name = 'etcd';
  await using server = await EtcdServer.start();
  const [endpoint] = parseEndpoints(server.url);
  if (!endpoint) throw new Error(`no endpoint in ${server.url}`);
  const writer = new EtcdClient(endpoint);
  const child: SourceChild = new Child('../../bench/source-child.ts', { execArgv: asShipped });
  try {
    await putAll(writer, clusterServices(size), 'Service');
    await putAll(writer, clusterSlices(size), 'EndpointSlice');
    await putAll(writer, clusterNodes(size), 'Node');
    inSync(name, await child.ask({ t: 'start', kind: 'etcd', urls: server.url }, 'synced'), report);
    const start = await child.ask({ t: 'reach', revision: 0 }, 'reached');
    const revision = await putAll(writer, churn(size), 'EndpointSlice');
    absorbed(name, start, await child.ask({ t: 'reach', revision }, 'reached'), report);
  } finally {
    writer.close();
    await child.kill();
  }
}

function* churn(size: ClusterSize): Generator<Manifest> {
  for (let n = 0; n < changes; n++)
    yield clusterSlice(n % size.services, Math.floor(n / size.services) % size.slicesPerService, size, 1);
}

/** In transactions of as many as etcd takes. The revision of the last one. */
async function putAll(
  client: EtcdClient,
  manifests: Iterable<Manifest>,
  kind: 'Service' | 'EndpointSlice' | 'Node',
): Promise<number> {
  const { signal } = new AbortController();
  let revision = 0;
  let batch: Manifest[] = [];
  const flush = async (): Promise<void> => {
    const success = batch.map((manifest): RequestOp => {
      const { name } = manifest['metadata'] as { readonly name: string };
      const key = keyOf({ kind, name: kind === 'Node' ? name : `default/${name}` });
      // As octoplane apply writes them, without what an API server notes for itself.
      const { managedFields: _, ...metadata } = manifest['metadata'] as Record<string, unknown>;
      const value = Buffer.from(JSON.stringify({ ...manifest, metadata }));
      return { request: { $case: 'requestPut', value: { key: Buffer.from(key), value, lease: '0' } } };
    });
    batch = [];
    const { header } = await client.txn({ compare: [], success, failure: [] }, signal);
    revision = header?.revision ?? revision;
  };
  for (const manifest of manifests) {
    batch.push(manifest);
    if (batch.length === 128) await flush();
  }
  if (batch.length > 0) await flush();
  return revision;
}

/** The whole controller, from its start to the moment it serves: state and rule sets are computed, too. */
async function wholeController(size: ClusterSize, report: Report): Promise<void> {
  const server: ServerChild = new Child('../kube-api/server-process.ts');
  const controller = new Child<ControllerRequest, ControllerReport>('./controller-process.ts', { execArgv: asShipped });
  try {
    const { url } = await server.ask({ t: 'start', size, watchList: true }, 'listening');
    using config = new KubeconfigFile({ bench: { server: url } });
    const startedMs = performance.now();
    const options: ControllerRequest = {
      t: 'start',
      logLevel: 'warn',
      options: controllerOptions({
        sources: [{ name: 'bench', kind: 'kubernetes', target: '' }],
        kubeconfig: config.path,
        serviceCidrs: [{ ip: '10.96.0.0', length: 12 }],
        release: 'bench',
      }),
    };
    const { http } = await controller.ask(options, 'listening');
    while (!(await fetch(`http://127.0.0.1:${http}/readyz`)).ok)
      await new Promise((resolve) => setTimeout(resolve, 20));
    const name = 'whole controller, API server, streamed lists';
    report({
      case: name,
      metric: 'from its start to serving',
      value: (performance.now() - startedMs) / 1000,
      unit: 's',
      budget: 15,
    });
    report({ case: name, metric: 'peak RSS', value: peakMbOf(controller.pid), unit: 'MB', budget: 600 });
  } finally {
    await Promise.all([controller.kill(), server.kill()]);
  }
}

/** From proc(5), in MB of 10^6 bytes. */
function peakMbOf(pid: number): number {
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return (Number(kib) * 1024) / 1e6;
}

function inSync(name: string, synced: SourceReport & { t: 'synced' }, report: Report): void {
  const figure = (metric: string, value: number, unit: string, budget?: number) =>
    report({ case: name, metric, value, unit, ...(budget === undefined ? {} : { budget }) });
  figure('objects', synced.objects, 'objects');
  figure('in sync', synced.afterMs / 1000, 's', 15);
  figure('CPU for it', synced.cpuMs / 1000, 's');
  figure('peak RSS', synced.peakMb, 'MB', 600);
}

type Reached = SourceReport & { t: 'reached' };

/** Per second of CPU, so that it is that of one core whoever else is on it. */
function absorbed(name: string, start: Reached, end: Reached, report: Report): void {
  const perSecond = (end.changes - start.changes) / ((end.cpuMs - start.cpuMs) / 1000);
  report({
    case: name,
    metric: 'slice events per second of CPU',
    value: perSecond,
    unit: '/s',
    budget: 2_000,
    atLeast: true,
  });
  report({ case: name, metric: 'RSS after it', value: end.rssMb, unit: 'MB' });
}

const total = (counts: Readonly<Record<string, number>>): number =>
  Object.values(counts).reduce((sum, n) => sum + n, 0);
