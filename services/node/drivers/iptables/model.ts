import type { Ip } from '@octoplane/model/address.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { Demand } from './books.ts';
import { catchAll, frameChains, pingMatch, type Table, tables } from './frame.ts';
import { frameNames, serviceChain } from './names.ts';
import { type Catch, type ServiceRules, serviceRules } from './service.ts';
import { host, type Settings } from './settings.ts';
import { addressKey, addressSpace, nodePortKey, nodePortSpace } from './spaces.ts';
import { RuleTrie, type TrieChanges } from './trie.ts';

export type Chains = ReadonlyMap<string, readonly string[]>;

export interface ModelChange {
  readonly key: ServicePortKey;
  /** In its visible form; null: none. */
  readonly entry: Entry | null;
}

/**
 * The rules of one family for a rule set, kept so that a change costs what it changes. Pure: what the kernel has is in the
 * books (books.ts). Endpoints are not kept, only what catches frontends.
 */
export class Model {
  readonly settings: Settings;
  readonly #catches = new Map<ServicePortKey, readonly Catch[]>();
  readonly #addresses = new Map<Ip, Map<ServicePortKey, Catch>>();
  readonly #nodePorts = new Map<string, Map<ServicePortKey, Catch>>();
  readonly #tries: Record<Table, { readonly addresses: RuleTrie; readonly nodePorts: RuleTrie }>;

  constructor(settings: Settings) {
    this.settings = settings;
    const tries = () => ({
      addresses: new RuleTrie(addressSpace(settings.family)),
      nodePorts: new RuleTrie(nodePortSpace),
    });
    this.#tries = { nat: tries(), filter: tries() };
  }

  /** Takes changes over, and asks for the chains that they touch and for the frame, which is small. */
  change(changes: Iterable<ModelChange>, demand: Record<Table, Demand>): void {
    const addresses = new Set<Ip>();
    const nodePorts = new Set<string>();
    for (const { key, entry } of changes) {
      const rules = entry === null ? noRules : serviceRules(entry, this.settings);
      for (const kind of ['SVC', 'LOC', 'EXT', 'RNG'] as const) {
        const name = serviceChain(kind, key);
        const lines = rules.chains.get(name);
        if (lines) demand.nat.want(name, lines);
        else demand.nat.drop(name);
      }
      this.#replaceCatches(key, rules.catches, addresses, nodePorts);
    }
    for (const table of tables) {
      const tries = this.#tries[table];
      const byAddress = new Map(Array.from(addresses, (ip) => [addressKey(ip), this.#addressRules(table, ip)]));
      const byPort = new Map(Array.from(nodePorts, (port) => [port, catchRules(table, this.#nodePorts.get(port))]));
      take(demand[table], tries.addresses.update(byAddress));
      take(demand[table], tries.nodePorts.update(byPort));
    }
    const frame = frameChains(this.settings);
    for (const table of tables) for (const [name, lines] of frame[table]) demand[table].want(name, lines);
  }

  /** The chain of a table in which a frontend is caught. */
  catchingChain(table: Table, { frontend, protocol, port }: Catch): string {
    const { addresses, nodePorts } = this.#tries[table];
    return frontend.ip === null
      ? nodePorts.chainFor(nodePortKey(protocol, port))
      : addresses.chainFor(addressKey(frontend.ip));
  }

  #replaceCatches(key: ServicePortKey, catches: readonly Catch[], addresses: Set<Ip>, nodePorts: Set<string>): void {
    const before = this.#catches.get(key) ?? [];
    if (before.length === catches.length && before.every((caught, i) => sameCatch(caught, catches[i]))) return;
    for (const { frontend, protocol, port } of before) {
      if (frontend.ip === null) drop(this.#nodePorts, nodePorts, nodePortKey(protocol, port), key);
      else drop(this.#addresses, addresses, frontend.ip, key);
    }
    for (const caught of catches) {
      const { frontend, protocol, port } = caught;
      if (frontend.ip === null) add(this.#nodePorts, nodePorts, nodePortKey(protocol, port), caught);
      else add(this.#addresses, addresses, frontend.ip, caught);
    }
    if (catches.length === 0) this.#catches.delete(key);
    else this.#catches.set(key, catches);
  }

  #addressRules(table: Table, ip: Ip): readonly string[] {
    const caught = this.#addresses.get(ip);
    const rules = catchRules(table, caught);
    const clusterIp = [...(caught?.values() ?? [])].filter(({ frontend }) => frontend.kind === 'clusterIP');
    if (clusterIp.length === 0) return rules;
    const { family, icmp } = this.settings;
    const ping = `-d ${host(ip)} ${pingMatch[family]}`;
    if (table === 'nat') {
      return clusterIp.some(({ answersPing }) => answersPing) ? [...rules, `${ping} -j ${frameNames.ping}`] : rules;
    }
    return [...rules, ...(icmp === 'drop' ? [`${ping} -j DROP`] : []), catchAll(ip)];
  }
}

const noRules: ServiceRules = { chains: new Map(), catches: [] };

const sameCatch = (a: Catch, b: Catch | undefined): boolean =>
  b !== undefined && a.translate === b.translate && a.refuse === b.refuse && a.answersPing === b.answersPing;

function take(demand: Demand, { chains, gone }: TrieChanges): void {
  for (const [name, lines] of chains) demand.want(name, lines);
  for (const name of gone) demand.drop(name);
}

function add<Place>(places: Map<Place, Map<ServicePortKey, Catch>>, changed: Set<Place>, at: Place, caught: Catch) {
  const held = places.get(at) ?? new Map<ServicePortKey, Catch>();
  held.set(caught.key, caught);
  places.set(at, held);
  changed.add(at);
}

function drop<Place>(
  places: Map<Place, Map<ServicePortKey, Catch>>,
  changed: Set<Place>,
  at: Place,
  key: ServicePortKey,
) {
  const held = places.get(at);
  held?.delete(key);
  if (held?.size === 0) places.delete(at);
  changed.add(at);
}

/** In an order of their own, so that the same rule set makes the same chain. */
function catchRules(table: Table, caught: ReadonlyMap<ServicePortKey, Catch> | undefined): readonly string[] {
  if (caught === undefined) return [];
  const ordered = [...caught.values()].sort(
    (a, b) => a.port - b.port || compare(a.protocol, b.protocol) || compare(a.key, b.key),
  );
  return ordered.flatMap(({ translate, refuse }) => (table === 'nat' ? [translate] : refuse === null ? [] : [refuse]));
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
