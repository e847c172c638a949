import { type Ip, ipFromBytes, ipToBytes } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import { branchChain, frameNames } from './names.ts';
import type { TrieSpace } from './trie.ts';

/** Service addresses: all their digits. */
export const addressKey = (ip: Ip): string => Buffer.from(ipToBytes(ip)).toString('hex');

export function addressSpace(family: Family): TrieSpace {
  const bytes = family === 'IPv4' ? 4 : 16;
  return {
    chainOf: (digits) => branchChain(frameNames.addresses, digits),
    matchOf: (digits) => {
      const ip = ipFromBytes(Buffer.from(digits.padEnd(bytes * 2, '0'), 'hex'));
      return `-d ${ip}/${digits.length * 4}`;
    },
  };
}

/** Node ports: the protocol's number, whose first digits already differ, and the port. */
export const nodePortKey = (protocol: string, port: number): string =>
  (protocolDigits[protocol] ?? '') + port.toString(16).padStart(4, '0');

const protocolDigits: Readonly<Record<string, string>> = { tcp: '06', udp: '11', sctp: '84' };

export const nodePortSpace: TrieSpace = {
  chainOf: (digits) => branchChain(frameNames.nodePorts, digits),
  matchOf: (digits) => {
    const protocol = Object.keys(protocolDigits).find((name) => protocolDigits[name]?.[0] === digits[0]);
    const ports = digits.slice(2);
    if (ports === '') return `-p ${protocol}`;
    const low = Number.parseInt(ports.padEnd(4, '0'), 16);
    const high = Number.parseInt(ports.padEnd(4, 'f'), 16);
    return `-p ${protocol} -m ${protocol} --dport ${low === high ? low : `${low}:${high}`}`;
  },
};
