import { cidrContains, type Ip, parseCidr } from '@octoplane/model/address.ts';
import type { Chains } from './model.ts';

/**
 * Walks a packet through rendered rules, for tests: the text is checked by golden files, the meaning by this. It knows the
 * matches and targets that this driver writes and fails on any other.
 */
export interface Packet {
  readonly source: Ip;
  readonly destination: Ip;
  /** "tcp", or "icmp" and "ipv6-icmp" for an echo request. */
  readonly protocol: string;
  readonly port: number;
  /** Addresses of this node. */
  readonly localAddresses: readonly Ip[];
}

export interface Outcome {
  /** "dnat 10.244.1.5:8080", "REJECT", "DROP"; what is left over falls through: "none". */
  readonly verdict: string;
  readonly marked: boolean;
  /** Between 0 and 1. */
  readonly probability: number;
  /** Rules looked at until then. */
  readonly rules: number;
}

export function walk(chains: Chains, start: string, packet: Packet): readonly Outcome[] {
  const outcomes: Outcome[] = [];
  let rules = 0;
  let marked = false;
  const enter = (name: string, entering: number): number => {
    let probability = entering;
    const lines = chains.get(name);
    if (lines === undefined) throw new Error(`no chain ${name}`);
    for (const line of lines) {
      rules++;
      const { matches, chance, target } = readRule(line, packet);
      const taken = matches ? probability * chance : 0;
      if (taken === 0) continue;
      if (target.t === 'return') return probability;
      if (target.t === 'mark') marked = true;
      else if (target.t === 'jump') probability = enter(target.chain, taken) + probability - taken;
      else {
        outcomes.push({ verdict: target.verdict, marked, probability: taken, rules });
        probability -= taken;
      }
      if (probability < 1e-12) return 0;
    }
    return probability;
  };
  const left = enter(start, 1);
  if (left > 0) outcomes.push({ verdict: 'none', marked, probability: left, rules });
  return outcomes;
}

type Target =
  | { readonly t: 'return' }
  | { readonly t: 'mark' }
  | { readonly t: 'jump'; readonly chain: string }
  | { readonly t: 'final'; readonly verdict: string };

function readRule(line: string, packet: Packet) {
  const words = line.match(/"[^"]*"|\S+/g) ?? [];
  let at = 0;
  const next = () => words[at++] ?? '';
  let matches = true;
  let chance = 1;
  let inverted = false;
  let target: Target = { t: 'return' };
  const require = (holds: boolean) => {
    if (holds === inverted) matches = false;
    inverted = false;
  };
  while (at < words.length) {
    const word = next();
    if (word === '!') inverted = true;
    else if (word === '-s') require(within(next(), packet.source));
    else if (word === '-d') require(within(next(), packet.destination));
    else if (word === '-p') require(next() === packet.protocol);
    else if (word === '-m') next();
    else if (word === '--dport') require(portWithin(next(), packet.port));
    else if (word === '--dst-type') require(next() === 'LOCAL' && packet.localAddresses.includes(packet.destination));
    else if (word === '--src-type') require(next() === 'LOCAL' && packet.localAddresses.includes(packet.source));
    else if (word === '--probability') chance = Number(next());
    // A new client is in no list, and learning always succeeds.
    else if (word === '--update') matches = false;
    else if (['--set', '--reap', '--rsource'].includes(word)) continue;
    else if (['--mode', '--comment', '--seconds', '--name', '--mask', '--icmp-type', '--icmpv6-type'].includes(word))
      next();
    else if (word === '-j') target = readTarget(next(), words.slice(at));
    else if (word.startsWith('--')) next();
    else throw new Error(`unknown word ${word} in ${line}`);
  }
  return { matches, chance, target };
}

function readTarget(name: string, details: readonly string[]): Target {
  if (name === 'RETURN') return { t: 'return' };
  if (name === 'MARK') return { t: 'mark' };
  if (name === 'DNAT') return { t: 'final', verdict: `dnat ${details[details.indexOf('--to-destination') + 1]}` };
  if (name.startsWith('OCTO-')) return { t: 'jump', chain: name };
  return { t: 'final', verdict: name };
}

function within(text: string, ip: Ip): boolean {
  const cidr = parseCidr(text);
  if (cidr === null) throw new Error(`${text} is not a network`);
  return cidrContains(cidr, ip);
}

function portWithin(text: string, port: number): boolean {
  const [low = 0, high = low] = text.split(':').map(Number);
  return port >= low && port <= high;
}
