import { createServer, type Server as NetServer, type Socket } from 'node:net';
import type {
  ConnectionInjector,
  Server as GrpcServer,
  ServerCredentials,
  ServerInterceptingCall,
  ServerInterceptor,
} from '@grpc/grpc-js';
import type { Logger } from 'pino';
import type { Cancel, Clock } from './clock.ts';

/** Why a connection was put out: too many at once from one address, or in all; or it never asked anything. */
export type Refusal = 'address' | 'all' | 'silent';

export interface DoorOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onRefused: (why: Refusal) => void;
  readonly limits?: Partial<DoorLimits>;
}

/** For connections from which no call has come yet. With mutual TLS a call proves a certificate; what comes after is not the door's. */
export interface DoorLimits {
  /** At once, from one address. Default 64: a node has one connection, and what is behind one address comes back with jitter. */
  readonly perAddress: number;
  /** At once. Default 8,192: a fleet of 5,000 that comes back at the same moment passes. */
  readonly inAll: number;
  /** Until the first call. Default 10,000: a handshake and a call take milliseconds, on the worst link a few round trips. */
  readonly silentMs: number;
  /** Whoever has a connection from this machine already. Default loopback: a fleet of stubs on one machine is no attack. */
  readonly isExempt: (address: string) => boolean;
}

const defaults: DoorLimits = {
  perAddress: 64,
  inAll: 8_192,
  silentMs: 10_000,
  isExempt: (address) => address === '::1' || /^(::ffff:)?127\./.test(address),
};

const logEveryUs = 10_000_000;

interface Guest {
  readonly socket: Socket;
  readonly address: string;
  readonly sinceUs: number;
}

/**
 * The TCP port before the gRPC server, which would keep any number of connections that never say who they are, for two minutes each, at
 * some ten kilobytes. Counted and limited here before anything is allocated for TLS. A unix socket is guarded by its file's mode instead.
 */
export class Door {
  readonly #options: DoorOptions;
  readonly #limits: DoorLimits;
  /** In the order of their coming, and so of their deadlines. By "ADDRESS:PORT", as gRPC names peers. */
  readonly #guests = new Map<string, Guest>();
  readonly #byAddress = new Map<string, number>();
  #port: NetServer | null = null;
  #sweep: Cancel | null = null;
  #refused = 0;
  #loggedAtUs = Number.NEGATIVE_INFINITY;

  constructor(options: DoorOptions) {
    this.#options = options;
    this.#limits = { ...defaults, ...options.limits };
  }

  /** To be given to the gRPC server: every call of a peer opens the door for it. */
  readonly interceptor: ServerInterceptor = (_method, call) => {
    this.#leave(call.getPeer());
    // The call as it is: a wrapper would cost something for every frame.
    return call as ServerInterceptingCall;
  };

  /** Resolves with the port. Connections that are let in go to the gRPC server. */
  listen(
    address: { readonly host: string; readonly port: number },
    server: GrpcServer,
    credentials: ServerCredentials,
  ): Promise<number> {
    const injector = server.createConnectionInjector(credentials);
    const port = createServer({ noDelay: true }, (socket) => this.#arrived(socket, injector));
    this.#port = port;
    return new Promise((resolve, reject) => {
      port.once('error', reject);
      port.listen(address, () => {
        const bound = port.address();
        resolve(typeof bound === 'object' && bound ? bound.port : 0);
      });
    });
  }

  /** Nobody comes in any more, and who has asked nothing goes. */
  close(): void {
    this.#port?.close();
    for (const { socket } of [...this.#guests.values()]) socket.destroy();
    this.#sweep?.();
  }

  /** Connections that have asked nothing yet. */
  get waiting(): number {
    return this.#guests.size;
  }

  #arrived(socket: Socket, injector: ConnectionInjector): void {
    const { remoteAddress: address, remotePort } = socket;
    if (address !== undefined) {
      const refusal = this.#refusalOf(address);
      if (refusal !== null) {
        socket.destroy();
        this.#note(refusal, address);
        return;
      }
      const peer = `${address}:${remotePort}`;
      this.#guests.set(peer, { socket, address, sinceUs: this.#options.clock.nowUs() });
      this.#byAddress.set(address, (this.#byAddress.get(address) ?? 0) + 1);
      socket.once('close', () => this.#leave(peer));
      this.#sweep ??= this.#sweepLater(this.#limits.silentMs);
    }
    injector.injectConnection(socket);
  }

  #refusalOf(address: string): Refusal | null {
    if (this.#guests.size >= this.#limits.inAll) return 'all';
    const isCrowd = (this.#byAddress.get(address) ?? 0) >= this.#limits.perAddress;
    return isCrowd && !this.#limits.isExempt(address) ? 'address' : null;
  }

  #leave(peer: string): void {
    const guest = this.#guests.get(peer);
    if (!guest) return;
    this.#guests.delete(peer);
    const left = (this.#byAddress.get(guest.address) ?? 1) - 1;
    if (left === 0) this.#byAddress.delete(guest.address);
    else this.#byAddress.set(guest.address, left);
  }

  #sweepLater(ms: number): Cancel {
    return this.#options.clock.after(ms, () => {
      this.#sweep = null;
      const nowUs = this.#options.clock.nowUs();
      for (const [peer, { socket, address, sinceUs }] of this.#guests) {
        const leftMs = this.#limits.silentMs - (nowUs - sinceUs) / 1_000;
        if (leftMs > 0) {
          this.#sweep = this.#sweepLater(leftMs);
          return;
        }
        this.#leave(peer);
        socket.destroy();
        this.#note('silent', address);
      }
    });
  }

  /** A line at once, and then what has come together every so often. */
  #note(why: Refusal, address: string): void {
    const { clock, logger, onRefused } = this.#options;
    onRefused(why);
    this.#refused++;
    if (clock.nowUs() - this.#loggedAtUs < logEveryUs) return;
    logger.warn(
      { why, address, refused: this.#refused, waiting: this.#guests.size },
      'connections that did not say who they are were closed',
    );
    this.#refused = 0;
    this.#loggedAtUs = clock.nowUs();
  }
}
