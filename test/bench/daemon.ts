import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ServerCredentials } from '@grpc/grpc-js';
import { entryDeltaToProto, entryToProto } from '@octoplane/model/codec.ts';
import { diffEntry } from '@octoplane/model/delta.ts';
import { DigestSums, digestToBytes } from '@octoplane/model/digest.ts';
import { Frame, Plan_Kind } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { type ServicePortKey, serviceName, servicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, endpointFlags } from '@octoplane/model/rule-set.ts';
import { Controller, type Conversation } from '@octoplane/node/testing/controller.ts';
import { build } from 'esbuild';
import type { Benchmark, Report } from './benchmark.ts';

const root = join(import.meta.dirname, '..', '..');
const services = 10_000;
const endpoints = 10;
const deltas = 300;
/** After a bulk the daemon gives memory back when it has been quiet for a while. */
const quietMs = 4000;

/**
 * The daemon as it ships, bundled and in a network namespace of its own, with a controller that plays a snapshot of
 * 10,000 x 10, then single endpoints, then a restart. `--driver NAME`, default nftables; `fake` shows what the daemon itself costs.
 */
export const daemon: Benchmark = {
  name: 'daemon',
  summary: 'the node daemon at 10,000 x 10: memory, snapshot to ack, one endpoint to ack, restart (--driver NAME)',
  async run(report, signal, args) {
    const at = args.indexOf('--driver');
    const driver = at < 0 ? 'nftables' : (args[at + 1] ?? 'nftables');
    const dir = mkdtempSync(join(tmpdir(), 'octoplane-bench-daemon-'));
    const brain = await new Controller().listen(ServerCredentials.createInsecure(), join(dir, 'brain'));
    const start = () => startDaemon(dir, brain.address, driver, signal);
    try {
      await bundle(dir);
      await measure(`${driver}, ${services} x ${endpoints}`, brain, start, report);
    } finally {
      brain.stop();
      rmSync(dir, { recursive: true });
    }
  },
};

async function measure(name: string, brain: Controller, start: () => ChildProcess, report: Report): Promise<void> {
  const cluster = new Cluster();
  const first = start();
  const peer = await brain.next();
  await peer.hears('hello');
  report({ case: name, metric: 'RSS before the first frame', value: rssMb(first), unit: 'MB' });
  peer.plan(Plan_Kind.SNAPSHOT);
  const snapshot = await timed(() => cluster.sendSnapshot(peer));
  report({ case: name, metric: 'snapshot to ack', value: snapshot, unit: 'ms' });
  report({ case: name, metric: 'RSS at the peak', value: rssMb(first, 'VmHWM'), unit: 'MB' });
  await delay(quietMs);
  report({ case: name, metric: 'RSS after the snapshot', value: rssMb(first), unit: 'MB', budget: 120 });
  const times: number[] = [];
  for (let i = 0; i < deltas; i++) times.push(await timed(() => cluster.sendEndpointChange(peer, i)));
  times.sort((a, b) => a - b);
  report({ case: name, metric: 'one endpoint to ack, median', value: times[deltas >> 1] ?? 0, unit: 'ms' });
  report({ case: name, metric: 'one endpoint to ack, p99', value: times[Math.floor(deltas * 0.99)] ?? 0, unit: 'ms' });
  report({ case: name, metric: `RSS after ${deltas} changes`, value: rssMb(first), unit: 'MB', budget: 120 });
  await end(first);
  const began = performance.now();
  const second = start();
  await (await brain.next()).hears('hello');
  report({ case: name, metric: 'restart to hello', value: performance.now() - began, unit: 'ms' });
  await delay(quietMs);
  report({ case: name, metric: 'RSS after a restart', value: rssMb(second), unit: 'MB', budget: 120 });
  await end(second);
}

/** The controller's picture, kept as entries so that frames are cheap to make. */
class Cluster {
  readonly #entries = new Map<ServicePortKey, Entry>();
  readonly #sums = new DigestSums();
  #sequence = 1;

  constructor() {
    for (let i = 0; i < services; i++) {
      const entry = entryOf(i, 0);
      this.#entries.set(entry.key, entry);
      this.#sums.replace(null, entry);
    }
  }

  async sendSnapshot(peer: Conversation): Promise<void> {
    const entries = [...this.#entries.values()].map(entryToProto);
    const perPart = 500;
    for (let from = 0; from < entries.length; from += perPart) {
      const more = from + perPart < entries.length;
      const part = {
        ...this.#blank(),
        changes: entries.slice(from, from + perPart),
        repair: { all: true, buckets: [] },
        more,
      };
      peer.says({ $case: 'frame', value: part });
    }
    await peer.hears('ack');
  }

  async sendEndpointChange(peer: Conversation, step: number): Promise<void> {
    const i = (step * 37) % services;
    const before = this.#entries.get(keyOf(i)) ?? null;
    const after = entryOf(i, step + 1);
    const from = { epoch: 1, sequence: this.#sequence++ };
    this.#entries.set(after.key, after);
    this.#sums.replace(before, after);
    const delta = diffEntry(before, after);
    if (delta)
      peer.says({ $case: 'frame', value: { ...this.#blank(), from, changes: [entryDeltaToProto(after.key, delta)] } });
    await peer.hears('ack');
  }

  #blank(): Frame {
    return { ...Frame.create(), to: { epoch: 1, sequence: this.#sequence }, digest: digestToBytes(this.#sums.total) };
  }
}

const keyOf = (i: number): ServicePortKey => servicePortKey(serviceName('default', `svc-${i}`), 80, 'TCP');

/** `turn`: the last endpoint moves to another address with each. */
const entryOf = (i: number, turn: number): Entry => ({
  key: keyOf(i),
  spec: {
    clusterIps: [`10.${96 + ((i + 256) >> 16)}.${((i + 256) >> 8) & 255}.${(i + 256) & 255}`],
    externalIps: [],
    loadBalancerIps: [],
    nodePort: 0,
    internalPolicy: 'Cluster',
    externalPolicy: 'Cluster',
    affinityTimeoutSeconds: 0,
    sourceRanges: [],
    healthCheckNodePort: 0,
    usableFamilies: 1,
  },
  endpoints: Array.from({ length: endpoints }, (_, k) => {
    const at = i * endpoints + k;
    const port = k === endpoints - 1 ? 8080 + (turn % 1000) : 8080;
    return { ip: `10.${128 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}`, port, flags: endpointFlags.cluster };
  }).toSorted((a, b) => (a.ip < b.ip ? -1 : 1)),
});

/** As deploy/build.ts ships it: one file, koffi beside it. */
async function bundle(dir: string): Promise<void> {
  symlinkSync(join(root, 'node_modules'), join(dir, 'node_modules'));
  await build({
    entryPoints: [join(root, 'test/bench/daemon-child.ts')],
    outdir: join(dir, 'dist'),
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    external: ['koffi'],
    logLevel: 'error',
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
}

function startDaemon(dir: string, controller: string, driver: string, signal: AbortSignal): ChildProcess {
  const daemonFile = join(dir, 'dist', 'daemon-child.mjs');
  const child = spawn('unshare', ['-n', process.execPath, daemonFile, controller, driver, join(dir, 'state')], {
    stdio: ['ignore', 'inherit', 'inherit'],
    signal,
  });
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}

function rssMb(child: ChildProcess, field: 'VmRSS' | 'VmHWM' = 'VmRSS'): number {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0) / 1024;
}

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
