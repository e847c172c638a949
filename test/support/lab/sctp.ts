import { randomInt } from 'node:crypto';
import { closeSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { type Ip, ipFromBytes } from '@octoplane/model/address.ts';
import {
  bindSocket,
  connectSocket,
  ipProtocols,
  openSocket,
  type Received,
  receiveFrom,
  sendTo,
  setSocketOption,
  socketTypes,
} from './libc.ts';
import { formatAnswer, isOwnRule, type Outcome, outcomeOf, parseAnswer } from './outcome.ts';
import { Readiness } from './readiness.ts';
import { chunkTypes, decodeSctp, encodeSctp, type SctpChunk, type SctpPacket } from './sctp-packet.ts';
import type { DialTarget } from './tcp.ts';

/**
 * SCTP's four-way handshake (RFC 9260, 5.1) in user space over raw sockets, because a kernel can forward and translate SCTP
 * without having SCTP sockets. The server's answer travels as the state cookie: an association that is set up has
 * been answered.
 */
const readiness = new Readiness();
const retransmitAfterMs = 300;

/** Completes handshakes; the cookie is its name and the client's address. */
export function serveSctp(netns: string, name: string, ip: Ip, port: number): () => void {
  const fd = openSocket(netns, isIPv4(ip) ? 4 : 6, socketTypes.raw, ipProtocols.sctp);
  bindSocket(fd, ip, 0);
  readiness.add(fd, () => {
    for (let got = receive(fd); got !== null; got = receive(fd)) {
      const { packet, from } = got;
      if (packet?.destinationPort !== port) continue;
      const answer = serverAnswer(name, from, packet);
      if (answer) sendUnlessUnreachable(fd, answer, from);
    }
  });
  return () => readiness.remove(fd);
}

/** The tag with which the client must speak is derived from its own, so that the server needs to remember nothing. */
function serverAnswer(
  name: string,
  from: Ip,
  { sourcePort, destinationPort, ...packet }: SctpPacket,
): SctpPacket | null {
  const to = { sourcePort: destinationPort, destinationPort: sourcePort };
  if (packet.chunk.type === chunkTypes.init) {
    const { tag } = packet.chunk;
    const cookie = Buffer.from(formatAnswer(name, { ip: from, port: sourcePort }));
    return { ...to, verificationTag: tag, chunk: { type: chunkTypes.initAck, tag: serverTag(tag), cookie } };
  }
  if (packet.chunk.type === chunkTypes.cookieEcho)
    return { ...to, verificationTag: clientTag(packet.verificationTag), chunk: { type: chunkTypes.cookieAck } };
  return null;
}

/** What keeps an answer from its client is the client's to notice. */
function sendUnlessUnreachable(fd: number, packet: SctpPacket, to: Ip): void {
  try {
    sendTo(fd, encodeSctp(packet), { ip: to, port: 0 });
  } catch (error) {
    outcomeOf(error);
  }
}

const serverTag = (tag: number): number => (tag ^ 0x5a5a5a5a) >>> 0;
const clientTag = serverTag;

/** Refused means ICMP port (or protocol) unreachable, or an ABORT. */
export async function dialSctp(netns: string, to: DialTarget): Promise<Outcome> {
  const fd = openSocket(netns, isIPv4(to.ip) ? 4 : 6, socketTypes.raw, ipProtocols.sctp);
  try {
    setSocketOption(fd, isIPv4(to.ip) ? 'errors4' : 'errors6', 1);
    connectSocket(fd, to.ip, 0);
  } catch (error) {
    closeSync(fd);
    return outcomeOf(error);
  }
  const sourcePort = to.bindPort > 0 ? to.bindPort : randomInt(32_768, 61_000);
  const tag = randomInt(1, 2 ** 32);
  const say = (verificationTag: number, chunk: SctpChunk) => {
    try {
      sendTo(fd, encodeSctp({ sourcePort, destinationPort: to.port, verificationTag, chunk }), null);
    } catch (error) {
      if (!isOwnRule(error)) throw error;
    }
  };
  return new Promise((resolve, reject) => {
    let answer: Outcome | null = null;
    const timers: NodeJS.Timeout[] = [];
    const end = (finish: () => void) => {
      for (const timer of timers) clearTimeout(timer);
      readiness.remove(fd);
      finish();
    };
    const guarded = (act: () => void) => {
      try {
        act();
      } catch (error) {
        end(() => {
          try {
            resolve(outcomeOf(error));
          } catch (unexpected) {
            reject(unexpected);
          }
        });
      }
    };
    readiness.add(fd, () =>
      guarded(() => {
        for (let got = receive(fd); got !== null; got = receive(fd)) {
          const { packet } = got;
          if (packet?.verificationTag !== tag || packet.destinationPort !== sourcePort) continue;
          if (packet.chunk.type === chunkTypes.initAck) {
            answer = parseAnswer(packet.chunk.cookie.toString());
            say(packet.chunk.tag, { type: chunkTypes.cookieEcho, cookie: packet.chunk.cookie });
          } else if (packet.chunk.type === chunkTypes.cookieAck && answer) {
            const outcome = answer;
            say(serverTag(tag), { type: chunkTypes.abort });
            return end(() => resolve(outcome));
          } else if (packet.chunk.type === chunkTypes.abort) {
            return end(() => resolve({ t: 'refused' }));
          }
        }
      }),
    );
    timers.push(setTimeout(() => end(() => resolve({ t: 'timedOut' })), to.timeoutMs));
    timers.push(setInterval(() => guarded(() => say(0, { type: chunkTypes.init, tag })), retransmitAfterMs));
    guarded(() => say(0, { type: chunkTypes.init, tag }));
  });
}

/** One packet for this socket, taken out of its IP header (which raw IPv4 sockets deliver and raw IPv6 sockets do not). */
function receive(fd: number): { readonly packet: SctpPacket | null; readonly from: Ip } | null {
  const received: Received | null = receiveFrom(fd);
  if (received === null) return null;
  const { data, address } = received;
  const version4 = address.length === 4;
  const payload = version4 ? data.subarray((data.readUInt8(0) & 15) * 4) : data;
  return { packet: decodeSctp(payload), from: ipFromBytes(address) ?? '?' };
}
