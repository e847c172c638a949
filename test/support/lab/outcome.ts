import type { Ip } from '@octoplane/model/address.ts';

/** How an attempt to talk to an address ended, as the client saw it. */
export type Outcome =
  | { readonly t: 'answered'; readonly by: string /** The client, as the server saw it. */; readonly seenAs: Peer }
  /** At once, by a reset or by ICMP port unreachable. */
  | { readonly t: 'refused' }
  /** At once, by another ICMP error. */
  | { readonly t: 'unreachable'; readonly code: string }
  /** A connection that had been established ended without an answer. */
  | { readonly t: 'reset' }
  | { readonly t: 'timedOut' };

export interface Peer {
  readonly ip: Ip;
  readonly port: number;
}

export type Transport = 'TCP' | 'UDP' | 'SCTP';

/** A server's answer: who it is, and whom it sees. */
export const formatAnswer = (name: string, client: Peer): string => `${name} ${client.ip} ${client.port}\n`;

export function parseAnswer(text: string): Outcome {
  const [by, ip, port] = text.trim().split(' ');
  if (by === undefined || ip === undefined || port === undefined)
    throw new Error(`not an answer of a lab server: ${text}`);
  return { t: 'answered', by, seenAs: { ip, port: Number(port) } };
}

/** Translates errno, the same for every protocol; an errno that says nothing about the way to the server is thrown on. */
export function outcomeOf(error: unknown): Outcome {
  const code = (error as { code?: unknown } | null)?.code;
  switch (code) {
    case 'ECONNREFUSED':
      return { t: 'refused' };
    case 'ECONNRESET':
    case 'EPIPE':
      return { t: 'reset' };
    case 'ETIMEDOUT':
      return { t: 'timedOut' };
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'ENOPROTOOPT':
    case 'EPROTO':
    case 'EACCES':
    case 'EMSGSIZE':
      return { t: 'unreachable', code };
    default:
      throw error;
  }
}

/**
 * A datagram that this host's own rules threw away: the sender is told, whether they reject (then an ICMP error is on its way) or
 * drop. A client that goes on waiting learns which.
 */
export const isOwnRule = (error: unknown): boolean => (error as { code?: unknown } | null)?.code === 'EPERM';

/** For messages: "answered by pod-1a, which saw 10.244.1.11", "refused". */
export function describeOutcome(outcome: Outcome): string {
  switch (outcome.t) {
    case 'answered':
      return `answered by ${outcome.by}, which saw ${outcome.seenAs.ip}`;
    case 'unreachable':
      return `unreachable (${outcome.code})`;
    case 'timedOut':
      return 'no answer';
    default:
      return outcome.t;
  }
}
