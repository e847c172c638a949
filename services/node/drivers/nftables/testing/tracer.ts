import { cidrContains, type Ip, ipToBytes, parseCidr } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';

/** A packet that begins a connection, where the node's tables first see it. */
export interface Packet {
  readonly family: Family;
  readonly from: Ip;
  readonly to: Ip;
  readonly proto: 'tcp' | 'udp' | 'sctp' | 'icmp' | 'icmpv6';
  readonly port: number;
}

export type Fate =
  | { readonly t: 'translated'; readonly ip: Ip; readonly port: number | null; readonly masqueraded: boolean }
  | { readonly t: 'passed' | 'rejected' | 'dropped' };

/** Which number a `numgen random mod modulus` draws. */
export type Draw = (modulus: number) => number;

type Verdict = 'accept' | 'drop' | 'return' | 'reject';

interface Flow {
  readonly packet: Packet;
  readonly draw: Draw;
  to: Ip;
  port: number | null;
  mark: number;
  translated: boolean;
  masqueraded: boolean;
}

/**
 * Walks packets through rules written as nft text, as far as ours need nft: what a transaction says is judged by what it does, without a
 * kernel. Understands the text of frame.ts and operation.ts and nothing else; a word that it does not know is an error.
 */
export class Tracer {
  readonly #sets = new Map<string, Map<string, string>>();
  readonly #chains = new Map<string, string[]>();
  readonly #ownAddresses: ReadonlySet<Ip>;

  constructor(ownAddresses: readonly Ip[]) {
    this.#ownAddresses = new Set(ownAddresses);
  }

  /** Takes text as `nft -f` does. */
  load(text: string): void {
    let chain: string | null = null;
    for (const line of text.split('\n').map((raw) => raw.trim())) {
      const block = /^chain (\S+) \{(.*)$/.exec(line);
      const command = /^(add|delete|flush) (element|chain|rule|map|set) inet octoplane (\S+) ?(.*)$/.exec(line);
      if (block) {
        const [, name = '', rest = ''] = block;
        this.#rules(name);
        chain = rest.includes('}') ? null : name;
      } else if (line === '}') chain = null;
      else if (chain !== null && line !== '') this.#rules(chain).push(line);
      else if (command) this.#command(command[1] ?? '', command[2] ?? '', command[3] ?? '', command[4] ?? '');
      else if (!/^(table|map|set|comment|$)/.test(line)) throw new Error(`what is "${line}"?`);
    }
  }

  trace(packet: Packet, draw: Draw): Fate {
    const flow: Flow = {
      packet,
      draw,
      to: packet.to,
      port: packet.port,
      mark: 0,
      translated: false,
      masqueraded: false,
    };
    for (const hook of ['prerouting', 'filter-prerouting', 'postrouting']) {
      const verdict = this.#walk(hook, flow);
      if (verdict === 'drop') return { t: 'dropped' };
      if (verdict === 'reject') return { t: 'rejected' };
    }
    if (!flow.translated) return { t: 'passed' };
    return { t: 'translated', ip: flow.to, port: flow.port, masqueraded: flow.masqueraded };
  }

  /** As when every client timed out. */
  forgetClients(): void {
    for (const [name, set] of this.#sets) if (name.startsWith('affinity')) set.clear();
  }

  #command(verb: string, object: string, name: string, rest: string): void {
    if (object === 'rule') this.#rules(name).push(rest);
    else if (object === 'chain' && verb === 'add') this.#rules(name);
    else if (object === 'chain' && verb === 'flush') this.#rules(name).splice(0);
    else if (object === 'chain') this.#chains.delete(name);
    else if (object === 'map' && verb === 'add') this.#sets.set(name, new Map());
    else if (object === 'map') this.#sets.delete(name);
    else if (object === 'set') this.#set(name).clear();
    else
      for (const one of rest.slice(2, -2).split(', ')) this.#element(verb, name, one.replace(/ comment "[^"]*"/, ''));
  }

  #element(verb: string, name: string, text: string): void {
    const [key = '', value = ''] = text.split(' : ');
    const set = this.#set(name);
    if (verb === 'add' && set.has(key)) throw new Error(`${name} has ${key} already`);
    if (verb === 'add') set.set(key, value);
    else if (!set.delete(key)) throw new Error(`${name} has no ${key}`);
  }

  #rules(name: string): string[] {
    const rules = this.#chains.get(name) ?? [];
    this.#chains.set(name, rules);
    return rules;
  }

  #set(name: string): Map<string, string> {
    const set = this.#sets.get(name) ?? new Map<string, string>();
    this.#sets.set(name, set);
    return set;
  }

  /** Null: the end of the chain was reached. `return` is the caller's business. */
  #walk(chain: string, flow: Flow): Verdict | null {
    const rules = this.#chains.get(chain);
    if (rules === undefined) throw new Error(`there is no chain ${chain}`);
    for (const rule of rules) {
      const verdict = this.#rule(rule.split(' '), flow);
      if (verdict === 'return') return null;
      if (verdict !== null && verdict !== 'end') return verdict;
      if (verdict === 'end') return null;
    }
    return null;
  }

  /** Null: on with the next rule; `end`: this chain is over, because another took its place. */
  #rule(words: string[], flow: Flow): Verdict | 'end' | null {
    const { packet } = flow;
    const next = (): string => words.shift() ?? '';
    const peek = (text: string): boolean => words.slice(0, text.split(' ').length).join(' ') === text;
    const take = (text: string): boolean => peek(text) && words.splice(0, text.split(' ').length).length > 0;
    const go = (text: string): Verdict | 'end' | null => {
      const [word, chain = ''] = text.split(' ');
      if (word === 'goto') return this.#walk(chain, flow) ?? 'end';
      if (word === 'jump') return this.#walk(chain, flow);
      return word as Verdict;
    };
    while (words.length > 0) {
      if (peek('goto') || peek('jump')) return go(`${next()} ${next()}`);
      if (take('return')) return 'return';
      if (take('accept')) return 'accept';
      if (take('drop')) return 'drop';
      if (take('reject')) return 'reject';
      if (take('masquerade')) {
        flow.masqueraded = true;
        return 'accept';
      }
      if (take('meta mark set meta mark')) {
        const operator = next();
        flow.mark = operator === '|' ? flow.mark | Number(next()) : flow.mark & Number(next());
      } else if (take('meta mark &')) {
        if ((flow.mark & Number(next())) === 0) return null;
        next();
        next();
      } else if (take('ct state new')) {
        // Every packet here begins a connection.
      } else if (take('ct state invalid')) return null;
      else if (take('ct status dnat')) {
        if (!flow.translated) return null;
      } else if (peek('fib')) {
        const [, side] = [next(), next()];
        if (!take('type local')) throw new Error(`fib ${words.join(' ')}`);
        if (!this.#ownAddresses.has(side === 'daddr' ? flow.to : packet.from)) return null;
      } else if (take('icmp type echo-request')) {
        if (packet.proto !== 'icmp') return null;
      } else if (take('icmpv6 type echo-request')) {
        if (packet.proto !== 'icmpv6') return null;
      } else if (take('update')) {
        const map = next().slice(1);
        next();
        const key = this.#concatenation(words, flow);
        next();
        const value = this.#concatenation(words, flow);
        next();
        if (key === null || value === null) return null;
        if (!this.#set(map).has(key)) this.#set(map).set(key, value);
      } else if (take(packet.family === 'IPv4' ? 'dnat ip to' : 'dnat ip6 to')) {
        return this.#translate(words, flow);
      } else if (peek('dnat')) {
        // Of the other family.
        return null;
      } else {
        const key = this.#concatenation(words, flow);
        if (key === null) return null;
        if (take('vmap')) {
          const verdict = this.#set(next().slice(1)).get(key);
          if (verdict === undefined) return null;
          return go(verdict);
        }
        if (!this.#matches(key, words)) return null;
      }
    }
    return null;
  }

  #translate(words: string[], flow: Flow): Verdict | null {
    if (words.length === 1) {
      flow.to = words.shift() ?? '';
    } else {
      const key = this.#concatenation(words, flow);
      words.shift();
      const endpoint = key === null ? undefined : this.#set((words.shift() ?? '').slice(1)).get(key);
      if (endpoint === undefined) return null;
      const [ip = '', port = ''] = endpoint.split(' . ');
      flow.to = ip;
      flow.port = Number(port);
    }
    flow.translated = true;
    return 'accept';
  }

  #matches(key: string, words: string[]): boolean {
    const negated = words[0] === '!=' && words.shift() === '!=';
    const right = words.shift() ?? '';
    if (!right.startsWith('@')) {
      let ranges = [right];
      if (right === '{') {
        const end = words.indexOf('}');
        ranges = words.splice(0, end + 1).map((word) => word.replace(',', ''));
      }
      return ranges.some((range) => within(range, key)) !== negated;
    }
    const set = this.#set(right.slice(1));
    const found = right.startsWith('@source-range')
      ? [...set.keys()].some((range) => inRange(range, key))
      : set.has(key);
    return found !== negated;
  }

  /** The values of "ip daddr . meta l4proto . ...", or null when the packet has no such field. */
  #concatenation(words: string[], flow: Flow): string | null {
    const values: (string | number | null)[] = [];
    do values.push(this.#field(words, flow));
    while (words[0] === '.' && words.shift());
    return values.includes(null) ? null : values.join(' . ');
  }

  #field(words: string[], { packet, to, port, draw }: Flow): string | number | null {
    const ip = packet.family === 'IPv4' ? 'ip' : 'ip6';
    const word = words.shift() ?? '';
    const raw = /^@nh,(\d+),8$/.exec(word);
    if (raw) return byteOfHeader(Number(raw[1]) / 8, packet.from, to);
    if (word === 'ip' || word === 'ip6') {
      const side = words.shift();
      return word !== ip ? null : side === 'daddr' ? to : packet.from;
    }
    const phrase = `${word} ${words.shift()}`;
    if (phrase === 'meta l4proto') return packet.proto;
    if (phrase === 'meta nfproto') return packet.family === 'IPv4' ? 'ipv4' : 'ipv6';
    if (phrase === 'th dport') return packet.proto.startsWith('icmp') ? null : port;
    if (phrase === 'ct original') {
      const what = words.shift() ?? '';
      if (what === 'proto-dst') return packet.port;
      words.shift();
      return what === ip ? packet.to : null;
    }
    if (phrase === 'numgen random') {
      words.shift();
      const drawn = draw(Number(words.shift()));
      if (words[0] !== 'offset') return drawn;
      words.shift();
      return drawn + Number(words.shift());
    }
    throw new Error(`what is "${phrase}"?`);
  }
}

/** A byte of the source or destination address, where it is in a network header. */
function byteOfHeader(at: number, from: Ip, to: Ip): number | null {
  const [source, target] = [ipToBytes(from), ipToBytes(to)];
  const first = source.length === 4 ? 12 : 8;
  return Buffer.concat([source, target])[at - first] ?? null;
}

/** A range, or a plain value. */
function within(range: string, value: string): boolean {
  const cidr = parseCidr(range);
  return cidr === null ? range === value : cidrContains(cidr, value);
}

function inRange(range: string, key: string): boolean {
  const [a, b] = [range.split(' . '), key.split(' . ')];
  return a.every((part, i) => (i === a.length - 1 ? within(part, b[i] ?? '') : part === b[i]));
}
