import { credentials } from '@grpc/grpc-js';
import type { Credential } from '@octoplane/cli/certs/authority.ts';
import { nodeName } from '@octoplane/model/keys.ts';
import { monotonicUs } from './monotonic.ts';
import { StubClient, type StubClientOptions } from './stub-client.ts';
import { SharedResults, StubNode } from './stub-node.ts';

/**
 * Many stub nodes in a process of their own, each on its own connection; started with child_process.fork. They come back by themselves, spread
 * as their last plan says. Rule sets are shared between them, so that memory and time go into the protocol.
 */
export interface FleetConfig {
  readonly t: 'start';
  readonly address: string;
  /** Of other replicas: a node that loses one goes on to the next. */
  readonly others?: readonly string[];
  readonly nodes: number;
  readonly zones: readonly string[];
  /** One certificate per node; null: plaintext. */
  readonly tls: { readonly ca: string; readonly nodes: readonly Credential[] } | null;
  /** Frames are answered after a random time up to this. Default 0. */
  readonly answerWithinMs?: number;
  /** Notes when each node was sent something and when it answered. Default false. */
  readonly isRecording?: boolean;
}

/** Microseconds of the machine's monotonic clock, which all processes share. */
export interface Answered {
  /** Version that the node then had. */
  readonly sequence: number;
  /** When what it answers came. */
  readonly receivedUs: number;
  readonly answeredUs: number;
}

export type FleetRequest =
  | FleetConfig
  | { readonly t: 'move'; readonly address: string }
  /** `forget plans`: what came before is not counted. */
  | { readonly t: 'count' | 'recall' | 'forget plans' };

export type FleetReport =
  /** Every node has a plan since the start, or since the last `move`. */
  | { readonly t: 'planned'; readonly afterMs: number }
  | {
      readonly t: 'counts';
      readonly plans: Readonly<Record<number, number>>;
      readonly receivedBytes: number;
      readonly connected: number;
      /** By address, nodes with a plan on the stream that they have there now. */
      readonly planned: Readonly<Record<string, number>>;
      readonly cpuMs: number;
      readonly digests: readonly string[];
    }
  /** By node, in the order of time. */
  | { readonly t: 'recording'; readonly answers: readonly (readonly Answered[])[] };

const shared = new SharedResults();
let clients: StubClient[] = [];
let address = '';
let others: readonly string[] = [];
let planned = new Set<StubNode>();
let startedAt = 0;
let recording: Answered[][] = [];

process.on('message', (request: FleetRequest) => {
  if (request.t === 'start') start(request);
  if (request.t === 'move') {
    address = request.address;
    planned = new Set();
    startedAt = performance.now();
    for (const { node } of clients) node.plans.length = 0;
  }
  if (request.t === 'forget plans') for (const { node } of clients) node.plans.length = 0;
  if (request.t === 'count') report(counts());
  if (request.t === 'recall') report({ t: 'recording', answers: recording });
});
process.on('disconnect', () => process.exit(0));

function start(config: FleetConfig): void {
  ({ address, others = [] } = config);
  startedAt = performance.now();
  recording = [];
  clients = Array.from({ length: config.nodes }, (_, i) => {
    const name = nodeName(`node-${i}`);
    const credential = config.tls?.nodes[i];
    const node = new StubNode({ name, zone: config.zones[i % config.zones.length] ?? '', shared });
    const client = new StubClient({
      node,
      address: nextOf(i),
      credentials:
        config.tls && credential
          ? credentials.createSsl(Buffer.from(config.tls.ca), Buffer.from(credential.key), Buffer.from(credential.cert))
          : credentials.createInsecure(),
      answerDelayMs: () => Math.random() * (config.answerWithinMs ?? 0),
      onPlan: () => havePlan(node),
      ...(config.isRecording && recorder()),
      onEnd: () => comeBack(client),
    });
    return client;
  });
  for (const client of clients) client.connect();
}

/** Another one with every connection. */
function nextOf(first: number): () => string {
  let turn = first;
  return () => {
    const all = [address, ...others];
    return all[turn++ % all.length] ?? address;
  };
}

function plannedAt(): Record<string, number> {
  const at: Record<string, number> = {};
  for (const { isConnected, node, address: there } of clients)
    if (isConnected && node.isPlanned) at[there] = (at[there] ?? 0) + 1;
  return at;
}

/** Of one node. */
function recorder(): Pick<StubClientOptions, 'onReceived' | 'onAnswer'> {
  const answers: Answered[] = [];
  let receivedUs = 0;
  recording.push(answers);
  return {
    onReceived: () => {
      receivedUs = monotonicUs();
    },
    onAnswer: ({ version }) =>
      answers.push({ sequence: version?.sequence ?? 0, receivedUs, answeredUs: monotonicUs() }),
  };
}

function havePlan(node: StubNode): void {
  if (planned.size === clients.length) return;
  planned.add(node);
  if (planned.size === clients.length) report({ t: 'planned', afterMs: performance.now() - startedAt });
}

/** Full jitter over the spread that the controller asked for; half a second while it is not there at all. */
function comeBack(client: StubClient): void {
  const spreadMs = Math.max(500, client.reconnectSpreadMs);
  setTimeout(() => client.connect(), Math.random() * spreadMs);
}

function counts(): FleetReport {
  const plans: Record<number, number> = {};
  for (const { node } of clients) for (const { kind } of node.plans) plans[kind] = (plans[kind] ?? 0) + 1;
  const { user, system } = process.cpuUsage();
  return {
    t: 'counts',
    plans,
    receivedBytes: clients.reduce((sum, { node }) => sum + node.receivedBytes, 0),
    connected: clients.filter(({ isConnected }) => isConnected).length,
    planned: plannedAt(),
    cpuMs: (user + system) / 1000,
    digests: [...new Set(clients.map(({ node }) => node.digest.toString(16)))],
  };
}

function report(message: FleetReport): void {
  process.send?.(message);
}
