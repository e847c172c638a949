import { status } from '@grpc/grpc-js';
import { digestToBytes } from '@octoplane/model/digest.ts';
import type { Hello, Plan } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { Plan_Kind } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { NodeName } from '@octoplane/model/keys.ts';
import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import type { Summary } from '../reconcile/reconciler.ts';
import { reconnectDelayMs } from './backoff.ts';
import { Channel, credentialsFor, type Transport } from './channel.ts';
import { converse, type SessionEnd, type SessionSink } from './session.ts';

export interface LinkOptions {
  /** HOST:PORT each; at least one. */
  readonly controllers: readonly string[];
  readonly transport: Transport;
  readonly identity: NodeIdentity;
  readonly clock: Clock;
  readonly logger: Logger;
  /** In [0, 1). */
  readonly random: () => number;
  readonly observer: LinkObserver;
}

export interface NodeIdentity {
  readonly name: NodeName;
  readonly release: string;
  readonly zone: string;
  /** Default empty: the controller's first. */
  readonly cluster?: string;
  readonly driver: string;
  readonly bootId: string;
}

export interface LinkSink extends Pick<SessionSink, 'bucketDigests' | 'rename' | 'program' | 'nodeState'> {
  summary(): Promise<Summary>;
}

export interface LinkObserver {
  connected(controller: string, plan: Plan): void;
  disconnected(): void;
}

/** The schema of rules.proto that this release understands. */
const schema = 1;

const connectTimeoutMs = 5000;

type Attempt =
  | { readonly t: 'unreachable'; readonly message: string }
  | { readonly t: 'ended'; readonly end: SessionEnd; readonly plan: Plan | null };

/**
 * Keeps a conversation with one of the controllers going until the signal is aborted. The rules in the kernel do not depend
 * on it: while no controller can be reached, the node forwards as before.
 */
export async function followControllers(options: LinkOptions, sink: LinkSink, signal: AbortSignal): Promise<void> {
  const { controllers, clock, logger, random, observer } = options;
  // Nodes that start together spread over the controllers.
  let next = Math.floor(random() * controllers.length);
  let address = controllers[next] ?? '';
  let failures = 0;
  let lastTrouble = '';
  while (!signal.aborted) {
    const attempt = await attemptOnce(options, sink, address, signal);
    if (signal.aborted) return;
    const plan = attempt.t === 'ended' ? attempt.plan : null;
    failures = plan ? 0 : failures + 1;
    if (plan) observer.disconnected();
    const trouble = describe(attempt);
    // The same trouble again and again is one log line.
    if (plan || trouble !== lastTrouble) logger.warn({ controller: address }, trouble);
    lastTrouble = trouble;
    if (attempt.t === 'ended' && attempt.end.t === 'moved' && attempt.end.to !== '') {
      address = attempt.end.to;
    } else {
      next = (next + 1) % controllers.length;
      address = controllers[next] ?? '';
    }
    await pause(clock, reconnectDelayMs(failures, plan?.reconnectSpreadMs ?? null, random), signal);
  }
}

async function attemptOnce(
  options: LinkOptions,
  sink: LinkSink,
  address: string,
  signal: AbortSignal,
): Promise<Attempt> {
  const { transport, identity, clock, logger, observer } = options;
  let channel: Channel | null = null;
  const hangUp = new AbortController();
  try {
    const open = new Channel(address, await credentialsFor(transport));
    channel = open;
    // Waiting for a connection knows no signal; closing the channel ends it.
    signal.addEventListener('abort', () => open.close(), { once: true, signal: hangUp.signal });
    await open.settled(connectTimeoutMs);
    hangUp.abort();
    if (signal.aborted) return { t: 'ended', end: { t: 'stopped' }, plan: null };
    let plan: Plan | null = null;
    const planned = (answer: Plan) => {
      plan = answer;
      logger.info(
        { controller: address, plan: kindName(answer), release: answer.release },
        'connected to a controller',
      );
      observer.connected(address, answer);
    };
    const hello = helloOf(identity, await sink.summary());
    const end = await converse(open.stream(), hello, sessionSink(sink, planned), clock, signal);
    return { t: 'ended', end, plan };
  } catch (error) {
    return { t: 'unreachable', message: error instanceof Error ? error.message : String(error) };
  } finally {
    hangUp.abort();
    channel?.close();
  }
}

const sessionSink = (sink: LinkSink, planned: (plan: Plan) => void): SessionSink => ({
  planned,
  bucketDigests: () => sink.bucketDigests(),
  rename: (version, inputs) => sink.rename(version, inputs),
  program: (frame) => sink.program(frame),
  nodeState: (state) => sink.nodeState(state),
});

const helloOf = (identity: NodeIdentity, held: Summary): Hello => ({
  nodeName: identity.name,
  release: identity.release,
  schema,
  zone: identity.zone,
  cluster: identity.cluster ?? '',
  driver: identity.driver,
  bootId: identity.bootId,
  held: held.version,
  digest: held.digest === null ? Buffer.alloc(0) : digestToBytes(held.digest),
  inputs: held.inputs,
});

function describe(attempt: Attempt): string {
  if (attempt.t === 'unreachable') return `the controller cannot be reached: ${attempt.message}`;
  const { end } = attempt;
  switch (end.t) {
    case 'stopped':
      return 'stopped';
    case 'moved':
      return `the controller asks to reconnect${end.to ? ` to ${end.to}` : ' elsewhere'}: ${end.reason}`;
    case 'violation':
      return `the controller sent ${end.message}: the stream is closed`;
    case 'failed':
      return `the stream is closed: ${end.error instanceof Error ? end.error.message : String(end.error)}`;
    case 'lost':
      return `${lostBecause(end.code)}: ${end.message}`;
  }
}

/** gRPC status, once, in words that say what to do where something can be done. */
function lostBecause(code: number): string {
  switch (code) {
    case status.PERMISSION_DENIED:
      return "refused: the certificate does not carry this node's name; compare --node-name with the certificate's subject";
    case status.UNAUTHENTICATED:
      return 'refused: the controller does not accept the certificate; compare --tls-ca on both sides';
    case status.UNIMPLEMENTED:
      return 'the controller does not speak this protocol; compare the releases';
    default:
      return 'the connection to the controller is lost';
  }
}

const kindName = (plan: Plan): string =>
  Object.entries(Plan_Kind).find(([, kind]) => kind === plan.kind)?.[0] ?? String(plan.kind);

async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.after(ms, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
