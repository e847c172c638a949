import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** TCP to a port of this machine, with hands on the wire: cut at once, cut after so many bytes, or silent. */
export class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #target: number;
  #silent = false;
  #refusing = false;
  /** Bytes to pass before each of the next cuts. */
  #limits: number[] = [];
  #cuts = 0;
  port = 0;

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer((client) => this.#take(client));
  }

  static async to(target: number): Promise<Relay> {
    const relay = new Relay(target);
    relay.#server.listen(0, '127.0.0.1');
    await once(relay.#server, 'listening');
    const address = relay.#server.address();
    if (typeof address === 'object' && address !== null) relay.port = address.port;
    return relay;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** How often `cutAfter` has cut. */
  get cuts(): number {
    return this.#cuts;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Lets so many bytes pass to the client, then cuts, once for each number. */
  cutAfter(...bytes: number[]): void {
    this.#limits = bytes;
  }

  /** Cuts, and lets nobody through until `accept`. */
  refuse(): void {
    this.#refusing = true;
    this.cut();
  }

  accept(): void {
    this.#refusing = false;
  }

  /** Cuts; the next connections lead elsewhere. */
  redirect(target: number): void {
    this.#target = target;
    this.cut();
  }

  /** Connections stay, and take bytes, but none comes out. */
  silence(): void {
    this.#silent = true;
  }

  [Symbol.dispose](): void {
    this.cut();
    this.#server.close();
  }

  #take(client: Socket): void {
    if (this.#refusing) {
      client.destroy();
      return;
    }
    const server = connect(this.#target, '127.0.0.1');
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from);
      from.on('data', (chunk) => {
        if (this.#silent) return;
        if (from === server) {
          const [limit] = this.#limits;
          if (limit !== undefined && limit > chunk.length) this.#limits[0] = limit - chunk.length;
          else if (limit !== undefined) {
            this.#limits.shift();
            this.#cuts++;
            to.write(chunk.subarray(0, chunk.length / 2));
            this.cut();
            return;
          }
        }
        to.write(chunk);
      });
      // A cut is an error to one side or the other; both ends go.
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }
}
