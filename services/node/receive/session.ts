import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import type { Hello, Plan, StreamRequest, StreamResponse } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { Clock } from '../clock.ts';
import type { Reconciler } from '../reconcile/reconciler.ts';
import { type ConversationState, type Instruction, onAnswered, onMessage } from './protocol.ts';

/** What the stream's messages act upon. */
export interface SessionSink extends Pick<Reconciler, 'bucketDigests' | 'rename' | 'program'> {
  /** The controller has answered the Hello. */
  planned(plan: Plan): void;
  nodeState(state: { readonly leaving: boolean }): void;
}

export type SessionEnd =
  | { readonly t: 'stopped' }
  | { readonly t: 'moved'; readonly to: string; readonly reason: string }
  /** `code` is gRPC's status. */
  | { readonly t: 'lost'; readonly code: number; readonly message: string }
  | { readonly t: 'violation'; readonly message: string }
  /** Ours: the daemon cannot go on with this stream. */
  | { readonly t: 'failed'; readonly error: unknown };

/** A message with its size on the wire. */
export interface Received {
  readonly response: StreamResponse;
  readonly bytes: number;
}

export type Stream = ClientDuplexStream<StreamRequest, Received>;

/** How long a controller that was told of the end may take to hang up, so that a last ack still reaches it. */
const farewellMs = 1000;

/**
 * One conversation, from Hello to its end. Frames are answered in the order in which they come; when the conversation is to
 * end, the frame in the kernel's hands is finished and answered first.
 */
export async function converse(
  stream: Stream,
  hello: Hello,
  sink: SessionSink,
  clock: Clock,
  signal: AbortSignal,
): Promise<SessionEnd> {
  const over = Promise.withResolvers<SessionEnd>();
  const closed = Promise.withResolvers<void>();
  let state: ConversationState = { t: 'greeting' };
  let working: Promise<void> = Promise.resolve();

  const send = (message: NonNullable<StreamRequest['message']>) => {
    if (stream.writable) stream.write({ message });
  };
  const carryOut = async (instruction: Instruction): Promise<void> => {
    switch (instruction.t) {
      case 'rename':
        return sink.rename(instruction.version, instruction.inputs);
      case 'send-digests':
        return send({ $case: 'bucketDigests', value: { digests: sink.bucketDigests() } });
      case 'program': {
        const answer = await sink.program(instruction.frame);
        state = onAnswered();
        return send(answer);
      }
      case 'node-state':
        return sink.nodeState(instruction);
      case 'move':
        return over.resolve({ t: 'moved', to: instruction.to, reason: instruction.reason });
      case 'violation':
        return over.resolve({ t: 'violation', message: instruction.message });
      case 'wait':
        return;
    }
  };

  stream.on('data', ({ response, bytes }: Received) => {
    const step = onMessage(state, response, bytes, clock.monotonicUs());
    const isAnswer = state.t === 'greeting' && step.state.t === 'following';
    state = step.state;
    if (isAnswer && response.message?.$case === 'plan') sink.planned(response.message.value);
    // A Move or a node state does not wait for the frame that is being programmed.
    const done = carryOut(step.instruction).catch((error: unknown) => over.resolve({ t: 'failed', error }));
    if (step.instruction.t === 'program') working = done;
  });
  stream.on('error', (error: ServiceError) => {
    over.resolve({ t: 'lost', code: error.code, message: error.details || error.message });
    closed.resolve();
  });
  stream.on('end', () => {
    over.resolve({ t: 'lost', code: 0, message: 'the controller ended the stream' });
    closed.resolve();
  });
  const stop = () => over.resolve({ t: 'stopped' });
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();

  send({ $case: 'hello', value: hello });
  const end = await over.promise;
  signal.removeEventListener('abort', stop);
  await working;
  stream.end();
  await atMost(closed.promise, clock);
  stream.cancel();
  return end;
}

async function atMost(promise: Promise<void>, clock: Clock): Promise<void> {
  const done = new AbortController();
  const timeUp = clock.after(farewellMs, done.signal).catch(() => {
    // Aborted below: the other one was first.
  });
  await Promise.race([promise, timeUp]);
  done.abort();
}
