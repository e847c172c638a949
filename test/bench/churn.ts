import { credentials } from '@grpc/grpc-js';
import { nodeName } from '@octoplane/model/keys.ts';
import type { EndpointSlice } from '@octoplane/model/objects.ts';
import { pino } from 'pino';
import { NodeBook } from '../../services/controller/acks/node-book.ts';
import { Allocator } from '../../services/controller/allocate/allocator.ts';
import { systemClock } from '../../services/controller/clock.ts';
import { listen, newGrpcServer, serverCredentials } from '../../services/controller/grpc-server.ts';
import { Committer } from '../../services/controller/history/committer.ts';
import { type Commit, History } from '../../services/controller/history/history.ts';
import { ClusterSet } from '../../services/controller/multicluster/cluster-set.ts';
import type { SourceEvent } from '../../services/controller/sources/source.ts';
import { ClusterState } from '../../services/controller/state/cluster-state.ts';
import { Fleet } from '../../services/controller/stream/fleet.ts';
import { rulesService, rulesServiceDefinition } from '../../services/controller/stream/rules-service.ts';
import { StubClient } from '../support/stub-nodes/stub-client.ts';
import { SharedResults, StubNode } from '../support/stub-nodes/stub-node.ts';
import { projected, syntheticManifests } from '../support/synthetic.ts';
import type { Benchmark, Report } from './benchmark.ts';

const cluster = { services: 10_000, endpoints: 25, nodes: 100, zones: 3 };
const stubCount = 10;
const seconds = 5;
const source = 'bench';

/**
 * Endpoint changes as fast as the controller takes them, and at fixed rates below that. Events enter where a source hands them
 * over; stub nodes in three zones acknowledge over real gRPC, in the same process and on the same core. `-- churn [RATE ...]`.
 */
export const churn: Benchmark = {
  name: 'churn',
  summary:
    'endpoint changes a second that the controller absorbs at 10,000 services x 25 endpoints, and its latency meanwhile',
  async run(report, signal, args) {
    const rates = args.filter((arg) => /^\d+$/.test(arg)).map(Number);
    await using bench = await Bench.start(report);
    for (const rate of rates.length > 0 ? rates : [100, 1000, 5000]) await bench.atRate(rate, report, signal);
    await bench.flatOut(report, signal);
  },
};

class Bench {
  readonly #history: History;
  readonly #book: NodeBook;
  readonly #committer: Committer;
  readonly #slices: EndpointSlice[];
  readonly #stop: () => Promise<void>;
  readonly #commits: Commit[];
  #turn = 0;
  #revision = 1;

  constructor(parts: {
    history: History;
    book: NodeBook;
    committer: Committer;
    slices: EndpointSlice[];
    commits: Commit[];
    stop: () => Promise<void>;
  }) {
    this.#history = parts.history;
    this.#book = parts.book;
    this.#committer = parts.committer;
    this.#slices = parts.slices;
    this.#commits = parts.commits;
    this.#stop = parts.stop;
  }

  static async start(report: Report): Promise<Bench> {
    const state = new ClusterState({ sources: [source], allocator: new Allocator({ serviceCidrs: [] }) });
    const clusterSet = new ClusterSet({ clusters: [{ name: source, state }], addresses: null });
    const history = new History({ epoch: Date.now() });
    const book = new NodeBook(history, clusterSet);
    const logger = pino({ level: 'error' }, pino.destination(2));
    const fleet = new Fleet({ cluster: clusterSet, history, book, clock: systemClock, logger, release: 'bench' });
    const commits: Commit[] = [];
    const committer = new Committer({
      computing: clusterSet,
      history,
      audience: {
        open: () => fleet.open(),
        async committed(made) {
          commits.push(...made);
          await fleet.committed(made);
        },
      },
      clock: systemClock,
      logger,
      onCorrected: (services) => {
        throw new Error(`compute was wrong about ${[...services].join(', ')}`);
      },
      onError: (error) => {
        throw error;
      },
    });
    const objects = Array.from(syntheticManifests(cluster), projected);
    const slices = objects.flatMap((object) => (object.kind === 'EndpointSlice' ? [object.slice] : []));
    const nowUs = systemClock.nowUs();
    const startUs = systemClock.nowUs();
    committer.take(source, [
      ...objects.map((object): SourceEvent => ({ t: 'upserted', object, observedAtUs: nowUs })),
      { t: 'synced', incarnation: source, revision: 1, observedAtUs: nowUs },
    ]);
    report(figure('first load', 'objects to first version', (systemClock.nowUs() - startUs) / 1000, 'ms'));

    const server = newGrpcServer();
    server.addService(
      rulesServiceDefinition,
      rulesService(fleet, () => () => true),
    );
    const port = await listen(server, '127.0.0.1:0', serverCredentials(null));
    const clients = await connectStubs(port);
    const stop = async () => {
      for (const client of clients) client.cut();
      server.forceShutdown();
    };
    return new Bench({ history, book, committer, slices, commits, stop });
  }

  /** So many changes a second, each handed over by itself. */
  async atRate(rate: number, report: Report, signal: AbortSignal): Promise<void> {
    await this.#measure(
      `${rate.toLocaleString('en-US')} changes/s offered`,
      report,
      signal,
      (elapsedMs, done) => Math.floor((elapsedMs * rate) / 1000) - done,
    );
  }

  /** As many as are taken. */
  async flatOut(report: Report, signal: AbortSignal): Promise<void> {
    await this.#measure('as many as it takes', report, signal, () => 1000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
  }

  async #measure(
    name: string,
    report: Report,
    signal: AbortSignal,
    due: (elapsedMs: number, done: number) => number,
  ): Promise<void> {
    this.#commits.length = 0;
    const start = performance.now();
    const cpu = process.cpuUsage();
    let done = 0;
    for (let elapsed = 0; elapsed < seconds * 1000 && !signal.aborted; elapsed = performance.now() - start) {
      const count = due(elapsed, done);
      for (let i = 0; i < count; i++) this.#changeOne();
      done += count;
      await new Promise((resolve) => setImmediate(resolve));
    }
    await this.#converged();
    const elapsedS = (performance.now() - start) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const latencies = this.#latenciesMs();
    report(figure(name, 'absorbed', done / elapsedS, 'changes/s'));
    report(figure(name, 'observed to last ack, median of versions', quantile(latencies, 0.5), 'ms'));
    report(figure(name, 'observed to last ack, 99th percentile', quantile(latencies, 0.99), 'ms'));
    report(figure(name, 'versions a second', this.#commits.length / elapsedS, 'versions/s'));
    report(figure(name, 'CPU, stubs included', (user + system) / 1_000_000 / elapsedS, 'cores'));
  }

  /** One endpoint of the next Service turns not ready, or ready again. */
  #changeOne(): void {
    const i = this.#turn++ % this.#slices.length;
    const slice = this.#slices[i];
    if (!slice) return;
    const changed = {
      ...slice,
      endpoints: slice.endpoints.map((endpoint, k) =>
        k === 0 ? { ...endpoint, ready: !endpoint.ready, serving: !endpoint.ready } : endpoint,
      ),
    };
    this.#slices[i] = changed;
    const observedAtUs = systemClock.nowUs();
    this.#committer.take(source, [
      { t: 'upserted', object: { kind: 'EndpointSlice', slice: changed }, observedAtUs },
      { t: 'synced', incarnation: source, revision: ++this.#revision, observedAtUs },
    ]);
  }

  #converged(): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        const newest = this.#book.convergence(this.#history.head);
        const isTaken = this.#history.inputs[0]?.revision === this.#revision;
        if (!isTaken || !newest?.isComplete) return;
        stop();
        resolve();
      };
      const stop = this.#book.watch(look);
      look();
    });
  }

  #latenciesMs(): number[] {
    const latencies = this.#commits.flatMap(({ sequence, committedAtUs, batch }) => {
      const p100Us = this.#book.convergence(sequence)?.p100Us;
      const oldest = batch.causes[0]?.observedAtUs;
      return p100Us == null || oldest === undefined ? [] : [(committedAtUs - oldest + p100Us) / 1000];
    });
    return latencies.sort((a, b) => a - b);
  }
}

async function connectStubs(port: number): Promise<StubClient[]> {
  const shared = new SharedResults();
  const ready = Promise.withResolvers<void>();
  let waiting = stubCount;
  const clients = Array.from({ length: stubCount }, (_, i) => {
    const node = new StubNode({ name: nodeName(`stub-${i}`), zone: `zone-${i % cluster.zones}`, shared });
    return new StubClient({
      node,
      address: `127.0.0.1:${port}`,
      credentials: credentials.createInsecure(),
      onAnswer: () => {
        if (node.frames === 1 && --waiting === 0) ready.resolve();
      },
      onEnd: ready.reject,
    });
  });
  for (const client of clients) client.connect();
  await ready.promise;
  return clients;
}

const quantile = (ascending: readonly number[], q: number): number =>
  ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * q))] ?? 0;

const figure = (name: string, metric: string, value: number, unit: string) => ({ case: name, metric, value, unit });
