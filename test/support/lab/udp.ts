import { createSocket, type Socket } from 'node:dgram';
import { isIPv4 } from 'node:net';
import type { Ip } from '@octoplane/model/address.ts';
import { bindSocket, closeOnFailure, ipProtocols, openSocket, setSocketOption, socketTypes } from './libc.ts';
import { formatAnswer, isOwnRule, type Outcome, outcomeOf, parseAnswer } from './outcome.ts';
import type { DialTarget } from './tcp.ts';

/** Answers every datagram with its name and the client's address. */
export async function serveUdp(netns: string, name: string, ip: Ip, port: number): Promise<() => Promise<void>> {
  const socket = datagramSocket(netns, ip, port);
  socket.on('message', (_, client) => {
    socket.send(formatAnswer(name, { ip: client.address, port: client.port }), client.port, client.address);
  });
  socket.on('error', () => {
    // An ICMP error for an answer that its client no longer awaits.
  });
  return async () => closed(socket);
}

export interface UdpTarget extends Pick<DialTarget, 'ip' | 'port' | 'bindPort'> {
  readonly connected: boolean;
  /** As in SocketOptions. */
  readonly allErrors?: boolean;
}

/** A socket that stays, connected to its peer or not. Connected, it learns of hard ICMP errors; otherwise of none. */
export class UdpFlow {
  readonly #socket: Socket;
  readonly #to: Pick<DialTarget, 'ip' | 'port'>;
  readonly #connected: Promise<void> | null;
  #waiting: ((outcome: Outcome) => void) | null = null;

  constructor(netns: string, to: UdpTarget) {
    this.#to = to;
    const { bindPort, allErrors = false } = to;
    this.#socket = clientSocket(netns, isIPv4(to.ip) ? '0.0.0.0' : '::', bindPort, allErrors);
    this.#socket.on('message', (data, from) => {
      // Like a resolver, an unconnected client takes an answer only from the address it asked.
      if (from.address === to.ip && from.port === to.port) this.#settle(parseAnswer(data.toString()));
    });
    this.#socket.on('error', (error) => this.#settle(outcomeOf(error)));
    this.#connected = to.connected
      ? new Promise((resolve, reject) => {
          this.#socket.once('connect', resolve);
          this.#socket.once('error', reject);
          this.#socket.connect(to.port, to.ip);
        })
      : null;
  }

  /** `resendMs`: asks again and again after so long, as resolvers do; 0: asks once. */
  async ask(timeoutMs: number, bytes = 1, resendMs = 0): Promise<Outcome> {
    try {
      await this.#connected;
    } catch (error) {
      return outcomeOf(error);
    }
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#settle({ t: 'timedOut' }), timeoutMs);
      const resend = resendMs > 0 ? setInterval(() => send(), resendMs) : undefined;
      this.#waiting = (outcome) => {
        clearTimeout(timer);
        clearInterval(resend);
        resolve(outcome);
      };
      const sent = (error: Error | null) => {
        if (error && !isOwnRule(error)) this.#settle(outcomeOf(error));
      };
      const data = Buffer.alloc(bytes, '.');
      const send = () => {
        if (this.#connected) this.#socket.send(data, sent);
        else this.#socket.send(data, this.#to.port, this.#to.ip, sent);
      };
      send();
    });
  }

  close(): Promise<void> {
    return closed(this.#socket);
  }

  #settle(outcome: Outcome): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.(outcome);
  }
}

export async function dialUdp(
  netns: string,
  to: DialTarget & { readonly connected: boolean; readonly resendMs?: number },
): Promise<Outcome> {
  const flow = new UdpFlow(netns, { ...to, allErrors: true });
  const outcome = await flow.ask(to.timeoutMs, to.bytes, to.resendMs);
  await flow.close();
  return outcome;
}

/**
 * Ports for clients that do not ask for one, in turn: a port that the kernel picks by chance may be one of a moment ago, whose
 * flow conntrack remembers for minutes, and then nothing is chosen anew.
 */
const firstPort = 41_000;
const lastPort = 60_000;
let nextPort = firstPort;

function clientSocket(netns: string, any: Ip, bindPort: number, allErrors: boolean): Socket {
  if (bindPort > 0) return datagramSocket(netns, any, bindPort, { allErrors });
  for (;;) {
    const port = nextPort;
    nextPort = port === lastPort ? firstPort : port + 1;
    try {
      return datagramSocket(netns, any, port, { allErrors });
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'EADDRINUSE') throw error;
    }
  }
}

interface DatagramOptions {
  /** Default: none, plain UDP. */
  readonly protocol?: number;
  /**
   * Hear of every ICMP error, connected or not. Only for a socket that is closed after its first error: Node does not drain
   * the error queue, and would wake for it without end. Default false.
   */
  readonly allErrors?: boolean;
}

export function datagramSocket(netns: string, ip: Ip, port: number, options: DatagramOptions = {}): Socket {
  const { protocol = ipProtocols.any, allErrors = false } = options;
  const family = isIPv4(ip) ? 4 : 6;
  const fd = openSocket(netns, family, socketTypes.datagram, protocol);
  closeOnFailure(fd, () => {
    setSocketOption(fd, 'reuseAddress', 1);
    if (allErrors) setSocketOption(fd, family === 4 ? 'errors4' : 'errors6', 1);
    if (family === 6) setSocketOption(fd, 'ipv6Only', 1);
    bindSocket(fd, ip, port);
  });
  const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
  socket.bind({ fd });
  return socket;
}

const closed = (socket: Socket): Promise<void> => new Promise((resolve) => socket.close(resolve));
