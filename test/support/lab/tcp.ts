import { createServer, isIPv4, type Server, Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import type { Ip } from '@octoplane/model/address.ts';
import {
  bindSocket,
  closeOnFailure,
  connectSocket,
  ipProtocols,
  listenSocket,
  openSocket,
  setSocketOption,
  socketTypes,
} from './libc.ts';
import { formatAnswer, type Outcome, outcomeOf, type Peer, parseAnswer } from './outcome.ts';

export interface TcpServer {
  /** At once, with all its connections. */
  stop(): Promise<void>;
  /** As a program ends that was asked to: it takes what has been connected before, and is gone when its clients are. */
  retire(): Promise<void>;
}

/** Answers every line with its name and the client's address, for as long as the client wants. */
export async function serveTcp(netns: string, name: string, ip: Ip, port: number): Promise<TcpServer> {
  const fd = openSocket(netns, isIPv4(ip) ? 4 : 6, socketTypes.stream, ipProtocols.any);
  closeOnFailure(fd, () => {
    setSocketOption(fd, 'reuseAddress', 1);
    if (!isIPv4(ip)) setSocketOption(fd, 'ipv6Only', 1);
    bindSocket(fd, ip, port);
    listenSocket(fd);
  });
  const connections = new Set<Socket>();
  const server = createServer((socket) => {
    connections.add(socket);
    const client: Peer = { ip: socket.remoteAddress ?? '?', port: socket.remotePort ?? 0 };
    onLines(socket, () => socket.write(formatAnswer(name, client)));
    // A client that leaves in a hurry is no fault of the server's; `close` follows.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => connections.delete(socket));
  });
  await listening(server, fd);
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
  return {
    async stop() {
      const closed = close();
      for (const socket of connections) socket.destroy();
      await closed;
    },
    async retire() {
      // Between two turns of the event loop everything is accepted that the kernel has connected.
      await turn();
      await turn();
      await close();
    },
  };
}

const listening = (server: Server, fd: number): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd }, () => {
      server.off('error', reject);
      resolve();
    });
  });

export interface DialTarget {
  readonly ip: Ip;
  readonly port: number;
  readonly timeoutMs: number;
  /** Source port; 0: any. */
  readonly bindPort: number;
  /** Size of the request. */
  readonly bytes: number;
}

/** A connection that stays, for requests on demand. */
export class TcpConnection {
  readonly #socket: Socket;
  readonly #abortive: boolean;
  #waiting: ((outcome: Outcome) => void) | null = null;
  #ended: Outcome | null = null;

  /** Throws when the kernel refuses at once. */
  constructor(netns: string, to: Pick<DialTarget, 'ip' | 'port' | 'bindPort'>) {
    const family = isIPv4(to.ip) ? 4 : 6;
    const fd = openSocket(netns, family, socketTypes.stream, ipProtocols.any);
    closeOnFailure(fd, () => {
      if (to.bindPort > 0) {
        setSocketOption(fd, 'reuseAddress', 1);
        bindSocket(fd, family === 4 ? '0.0.0.0' : '::', to.bindPort);
      }
      connectSocket(fd, to.ip, to.port);
    });
    this.#abortive = to.bindPort > 0;
    this.#socket = new Socket({ fd, readable: true, writable: true });
    onLines(this.#socket, (line) => this.#settle(parseAnswer(line)));
    this.#socket.on('error', (error) => {
      this.#ended = outcomeOf(error);
      this.#settle(this.#ended);
    });
    this.#socket.on('close', () => {
      this.#ended ??= { t: 'reset' };
      this.#settle(this.#ended);
    });
  }

  /** One request and its answer. Requests on one connection must not overlap. */
  async ask(timeoutMs: number, bytes = 1): Promise<Outcome> {
    if (this.#ended) return this.#ended;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#settle({ t: 'timedOut' }), timeoutMs);
      this.#waiting = (outcome) => {
        clearTimeout(timer);
        resolve(outcome);
      };
      this.#socket.write(`${'.'.repeat(bytes - 1)}\n`);
    });
  }

  /** With a chosen source port the connection ends by a reset, so that the port is free again at once. */
  close(): void {
    if (this.#abortive) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }

  #settle(outcome: Outcome): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.(outcome);
  }
}

export async function dialTcp(netns: string, to: DialTarget): Promise<Outcome> {
  let connection: TcpConnection;
  try {
    connection = new TcpConnection(netns, to);
  } catch (error) {
    return outcomeOf(error);
  }
  const outcome = await connection.ask(to.timeoutMs, to.bytes);
  connection.close();
  return outcome;
}

function onLines(socket: Socket, onLine: (line: string) => void): void {
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
}
