import { type ChannelCredentials, Client, type ClientDuplexStream, type ServiceError, status } from '@grpc/grpc-js';
import { StreamRequest, StreamResponse } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { rulesServiceDefinition } from '../../../services/controller/stream/rules-service.ts';
import type { StubNode } from './stub-node.ts';

export interface StubClientOptions {
  readonly node: StubNode;
  /** Asked for with every new connection. */
  readonly address: string | (() => string);
  readonly credentials: ChannelCredentials;
  /** A message has come, and has not been looked at. */
  readonly onReceived?: () => void;
  /** After each answer to a frame. */
  readonly onAnswer?: (node: StubNode) => void;
  /** After a Plan. */
  readonly onPlan?: (node: StubNode) => void;
  /** The stream ended; with OK after Move. */
  readonly onEnd?: (error: ServiceError) => void;
  /** Holds an answer back for so long. Default 0. */
  readonly answerDelayMs?: () => number;
}

/** A stub node on a connection of its own, over real gRPC. One stream at a time; `connect` opens the next. */
export class StubClient {
  readonly node: StubNode;
  readonly #options: StubClientOptions;
  #client: Client | null = null;
  #stream: ClientDuplexStream<Buffer, Buffer> | null = null;
  /** Of the newest connection. */
  address = '';

  constructor(options: StubClientOptions) {
    this.node = options.node;
    this.#options = options;
  }

  /** As the last plan said. */
  get reconnectSpreadMs(): number {
    return this.node.plans.at(-1)?.reconnectSpreadMs ?? 0;
  }

  get isConnected(): boolean {
    return this.#stream !== null;
  }

  connect(): void {
    const { address, credentials, node, onEnd } = this.#options;
    if (this.#client === null) this.address = typeof address === 'string' ? address : address();
    this.#client ??= new Client(this.address, credentials, {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_channelz': 0,
      'grpc.enable_retries': 0,
      'grpc.max_receive_message_length': 64 * 1024 * 1024,
    });
    const { path, requestSerialize, responseDeserialize } = rulesServiceDefinition.stream;
    const stream = this.#client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    this.#stream = stream;
    stream.on('data', (bytes: Buffer) => this.#received(stream, bytes));
    // Every end comes as a status, which is looked at below.
    stream.on('error', () => undefined);
    stream.on('status', ({ code, details, metadata }) => {
      if (this.#stream !== stream) return;
      this.#stream = null;
      // A new channel has no back-off of its own: when to come back is the stub's business.
      this.#client?.close();
      this.#client = null;
      onEnd?.(Object.assign(new Error(`${status[code]}: ${details}`), { code, details, metadata }));
    });
    this.send(node.hello());
  }

  send(message: NonNullable<StreamRequest['message']>): void {
    this.sendBytes(Buffer.from(StreamRequest.encode({ message }).finish()));
  }

  sendBytes(bytes: Buffer): void {
    this.#stream?.write(bytes);
  }

  /** As a crash does: without a word. */
  cut(): void {
    const stream = this.#stream;
    this.#stream = null;
    stream?.cancel();
    this.#client?.close();
    this.#client = null;
  }

  #received(stream: ClientDuplexStream<Buffer, Buffer>, bytes: Buffer): void {
    if (this.#stream !== stream) return;
    const { node, onAnswer, onPlan, onReceived, answerDelayMs } = this.#options;
    onReceived?.();
    const response = StreamResponse.decode(bytes);
    node.receivedBytes += bytes.length;
    const answer = node.received(response);
    if (response.message?.$case === 'plan') onPlan?.(node);
    if (!answer) return;
    const delayMs = answerDelayMs?.() ?? 0;
    const reply = () => {
      if (this.#stream !== stream) return;
      this.send(answer);
      if (answer.$case === 'ack' || answer.$case === 'nack') onAnswer?.(node);
    };
    if (delayMs > 0) setTimeout(reply, delayMs);
    else reply();
  }
}
