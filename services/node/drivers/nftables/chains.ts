import type { Family } from '@octoplane/model/keys.ts';
import { localIndex, mostEndpoints, setsOf } from './layout.ts';

/** A rule of a chain that comes and goes with what is programmed. Everything with a condition of its own is in the frame. */
export type Rule =
  | { readonly t: 'goto'; readonly chain: string }
  /** On, if the frontend has more endpoints than this. */
  | {
      readonly t: 'wide';
      readonly family: Family;
      readonly frontend: FrontendForm;
      readonly set: string;
      readonly than: number;
      readonly chain: string;
    }
  /** Destination from `map` by (frontend, a drawn index). */
  | {
      readonly t: 'dnat';
      readonly family: Family;
      readonly frontend: FrontendForm;
      readonly map: string;
      readonly modulus: number;
      readonly offset: number;
    }
  /** Destination from the affinity map by the client's address; a client that is not in it goes on. */
  | { readonly t: 'dnat-known'; readonly family: Family; readonly map: string; readonly proto: string }
  /** Puts (client, endpoint) into the affinity map, or renews the timeout of what is there. */
  | { readonly t: 'learn'; readonly family: Family; readonly map: string };

/** A service address is looked up with its address, a node port without. */
export type FrontendForm = 'service' | 'node-port';

export interface Chain {
  readonly name: string;
  readonly comment: string | null;
  readonly rules: readonly Rule[];
}

const families: readonly Family[] = ['IPv4', 'IPv6'];
const header = (family: Family): string => (family === 'IPv4' ? 'ip' : 'ip6');

export function ruleText(rule: Rule): string {
  switch (rule.t) {
    case 'goto':
      return `goto ${rule.chain}`;
    case 'wide':
      return `${familyText(rule)}${lookupText(rule)} . ${numberText(1, rule.than)} @${rule.set} goto ${rule.chain}`;
    case 'dnat':
      return (
        `${familyText(rule)}dnat ${header(rule.family)} to ${lookupText(rule)} . ` +
        `${numberText(rule.modulus, rule.offset)} map @${rule.map}`
      );
    case 'dnat-known': {
      const ip = header(rule.family);
      return `meta l4proto ${rule.proto} dnat ${ip} to ${ip} saddr map @${rule.map}`;
    }
    case 'learn': {
      const ip = header(rule.family);
      return `update @${rule.map} { ${ip} saddr : ${ip} daddr . th dport }`;
    }
  }
}

type LookupRule = Extract<Rule, { readonly frontend: FrontendForm }>;

const lookupText = (rule: LookupRule): string =>
  rule.frontend === 'service' ? `${header(rule.family)} daddr . meta l4proto . th dport` : 'meta l4proto . th dport';

/** A node port says nothing of the family; an address does. */
const familyText = (rule: LookupRule): string =>
  rule.frontend === 'service' ? '' : `meta nfproto ${rule.family === 'IPv4' ? 'ipv4' : 'ipv6'} `;

/** nft has no constants in concatenations: one drawn out of one is always `offset`. */
const numberText = (modulus: number, offset: number): string =>
  `numgen random mod ${modulus}${offset === 0 ? '' : ` offset ${offset}`}`;

// Balancing

/** One of the two lists of endpoints that a frontend may have. */
export interface Balance {
  readonly frontend: FrontendForm;
  readonly list: 'first' | 'local';
}

export const balances: readonly Balance[] = [
  { frontend: 'service', list: 'first' },
  { frontend: 'service', list: 'local' },
  { frontend: 'node-port', list: 'first' },
  { frontend: 'node-port', list: 'local' },
];

/** Indexes of the smallest frontends; every further size is twice the one before. */
export const leastSize = 4;

export const balanceName = ({ frontend, list }: Balance, size = leastSize): string =>
  `${frontend === 'node-port' ? 'node-port-' : ''}${list === 'local' ? 'local-' : ''}balance-${size}`;

/** How many indexes are drawn from, for so many endpoints. */
export function sizeFor(endpoints: number): number {
  let size = leastSize;
  while (size < endpoints) size *= 2;
  return size;
}

/** How often one to two endpoints fill up the least size: 4 or 2 times, everything else once. */
export const copiesOf = (endpoints: number): number => Math.floor(sizeFor(endpoints) / Math.max(1, endpoints));

/** Draws among `size` indexes before the sizes below are fallen back to: fewer than one in a hundred connections gets there. */
const draws = 6;

/**
 * The chain that balances over `size` indexes, more than half of which are taken. A draw that finds none goes on to the next
 * rule and draws anew, so every endpoint is as likely as the others. After six draws comes half the size, all of
 * which is taken, and then the first: that one is for a packet that came by the elements of one generation
 * and finds those of the next, with fewer endpoints.
 */
export function balanceChain(balance: Balance, size: number, largest: number): Chain {
  const offset = balance.list === 'local' ? localIndex : 0;
  const rules: Rule[] = [];
  const { frontend } = balance;
  if (size < largest) {
    for (const family of families) {
      const set = frontend === 'node-port' ? setsOf[family].nodePortWide : setsOf[family].wide;
      const chain = balanceName(balance, size * 2);
      rules.push({ t: 'wide', family, frontend, set, than: size + offset, chain });
    }
  }
  for (const family of families) {
    const map = frontend === 'node-port' ? setsOf[family].nodePortEndpoint : setsOf[family].endpoint;
    for (const modulus of [...Array<number>(draws).fill(size), size / 2, 1]) {
      rules.push({ t: 'dnat', family, frontend, map, modulus, offset });
    }
  }
  return { name: balanceName(balance, size), comment: null, rules };
}

/** Every size from the least to the largest, those that others go to first. */
export function balanceChains(balance: Balance, largest: number): Chain[] {
  const chains: Chain[] = [];
  for (let size = Math.min(largest, mostEndpoints); size >= leastSize; size /= 2) {
    chains.push(balanceChain(balance, size, largest));
  }
  return chains;
}

// Affinity

/**
 * A client-IP affinity of one service port and one of its lists of endpoints: two maps from client to endpoint. The lists are kept
 * apart because a client of the Local policy must not be led to an endpoint elsewhere by what it learned through the
 * Cluster policy.
 */
export interface Affinity {
  /** Eight hexadecimal digits that follow from the key, the timeout and the list. */
  readonly id: string;
  readonly proto: string;
  /** The key of the service port, for people. */
  readonly owner: string;
  readonly timeoutSeconds: number;
  readonly list: 'cluster' | 'local';
}

export const affinityMap = (affinity: Affinity, family: Family): string =>
  `affinity${family === 'IPv4' ? 4 : 6}-${affinity.id}`;

export const affinityMapForm = /^affinity([46])-([0-9a-f]{8})$/;

/** Leads a client to the endpoint that is remembered for it, and comes back otherwise. */
export const stickyChain = (affinity: Affinity): Chain => ({
  name: stickyName(affinity),
  comment: affinity.owner,
  rules: families.map((family) => ({
    t: 'dnat-known',
    family,
    map: affinityMap(affinity, family),
    proto: affinity.proto,
  })),
});

export const stickyName = (affinity: Affinity): string => `remember-${affinity.id}`;

/**
 * Learns into every affinity given. Where a frontend has two lists, clients in the cluster use the one and all others the other, so
 * that what is put into the wrong one is never asked for.
 */
export const learnChain = (affinities: readonly Affinity[]): Chain => ({
  name: learnName(affinities),
  comment: affinities[0]?.owner ?? null,
  rules: affinities.flatMap((affinity) =>
    families.map((family): Rule => ({ t: 'learn', family, map: affinityMap(affinity, family) })),
  ),
});

export const learnName = (affinities: readonly Affinity[]): string =>
  `learn-${affinities.map((affinity) => affinity.id).join('-')}`;
