import { isIPv4 } from 'node:net';
import type { Ip } from '@octoplane/model/address.ts';
import { ipProtocols } from './libc.ts';
import { isOwnRule, type Outcome, outcomeOf } from './outcome.ts';
import { datagramSocket } from './udp.ts';

/** How a ping of an address ended. */
export type PingOutcome = { readonly t: 'replied' } | Exclude<Outcome, { readonly t: 'answered' }>;

/** One echo request through a ping socket (ICMP without raw packets; Linux ip(7), ping_group_range). */
export async function ping(netns: string, ip: Ip, timeoutMs: number): Promise<PingOutcome> {
  const version4 = isIPv4(ip);
  const protocol = version4 ? ipProtocols.icmp : ipProtocols.icmp6;
  const socket = datagramSocket(netns, version4 ? '0.0.0.0' : '::', 0, { protocol, allErrors: true });
  const result = await new Promise<PingOutcome>((resolve, reject) => {
    const timer = setTimeout(() => resolve({ t: 'timedOut' }), timeoutMs);
    const settle = (outcome: PingOutcome) => {
      clearTimeout(timer);
      resolve(outcome);
    };
    const failed = (error: Error) => {
      clearTimeout(timer);
      try {
        const outcome = outcomeOf(error);
        if (outcome.t === 'answered') throw error;
        resolve(outcome);
      } catch (unexpected) {
        reject(unexpected);
      }
    };
    socket.on('message', (_, from) => {
      if (from.address === ip) settle({ t: 'replied' });
    });
    socket.on('error', failed);
    // Echo request; the kernel fills in identifier and checksum. The port is not used but must be one for Node.
    const echo = Buffer.from([version4 ? 8 : 128, 0, 0, 0, 0, 0, 0, 1, ...Buffer.from('octoplane')]);
    socket.send(echo, 1, ip, (error) => {
      if (error && !isOwnRule(error)) failed(error);
    });
  });
  await new Promise<void>((resolve) => socket.close(resolve));
  return result;
}
