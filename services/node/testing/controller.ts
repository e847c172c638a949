import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import {
  Plan,
  type Plan_Kind,
  RulesServiceService,
  type StreamRequest,
  type StreamResponse,
} from '@octoplane/model/gen/octoplane/v1/stream.ts';

type Peer = ServerDuplexStream<StreamRequest, StreamResponse>;
type Message = NonNullable<StreamRequest['message']>;
type ValueOf = { [M in Message as M['$case']]: M['value'] };

/** A controller made by hand: hands out the streams that nodes open, and reads what they say one by one. */
export class Controller {
  readonly #server = new Server();
  readonly #streams: Conversation[] = [];
  #waiting: ((conversation: Conversation) => void) | null = null;
  address = '';

  /** `unixPath`: a socket in the file system, which network namespaces do not separate. */
  async listen(credentials = ServerCredentials.createInsecure(), unixPath: string | null = null): Promise<this> {
    this.#server.addService(RulesServiceService, {
      stream: (peer: Peer) => {
        const conversation = new Conversation(peer);
        if (this.#waiting) this.#waiting(conversation);
        else this.#streams.push(conversation);
        this.#waiting = null;
      },
    });
    const bound = Promise.withResolvers<number>();
    this.#server.bindAsync(unixPath === null ? '127.0.0.1:0' : `unix:${unixPath}`, credentials, (error, port) =>
      error ? bound.reject(error) : bound.resolve(port),
    );
    const port = await bound.promise;
    this.address = unixPath === null ? `127.0.0.1:${port}` : `unix:${unixPath}`;
    return this;
  }

  next(): Promise<Conversation> {
    const ready = this.#streams.shift();
    if (ready) return Promise.resolve(ready);
    const { promise, resolve } = Promise.withResolvers<Conversation>();
    this.#waiting = resolve;
    return promise;
  }

  stop(): void {
    this.#server.forceShutdown();
  }
}

export class Conversation {
  readonly #peer: Peer;
  readonly #inbox: (Message | 'end')[] = [];
  #reader: ((message: Message | 'end') => void) | null = null;

  constructor(peer: Peer) {
    this.#peer = peer;
    peer.on('data', ({ message }: StreamRequest) => this.#deliver(message ?? 'end'));
    peer.on('end', () => {
      peer.end();
      this.#deliver('end');
    });
    peer.on('cancelled', () => this.#deliver('end'));
  }

  #deliver(message: Message | 'end'): void {
    if (this.#reader) this.#reader(message);
    else this.#inbox.push(message);
    this.#reader = null;
  }

  #next(): Promise<Message | 'end'> {
    const ready = this.#inbox.shift();
    if (ready !== undefined) return Promise.resolve(ready);
    const { promise, resolve } = Promise.withResolvers<Message | 'end'>();
    this.#reader = resolve;
    return promise;
  }

  async hears<C extends keyof ValueOf>($case: C): Promise<ValueOf[C]> {
    const message = await this.#next();
    if (message === 'end' || message.$case !== $case)
      throw new Error(`expected ${$case}, heard ${message === 'end' ? message : JSON.stringify(message)}`);
    return message.value as ValueOf[C];
  }

  /** True when the node hangs up. */
  async ended(): Promise<boolean> {
    return (await this.#next()) === 'end';
  }

  says(message: NonNullable<StreamResponse['message']>): void {
    this.#peer.write({ message });
  }

  plan(kind: Plan_Kind, fields: Partial<Plan> = {}): void {
    this.says({ $case: 'plan', value: { ...Plan.create(), ...fields, kind } });
  }
}
