import type { Family } from '@octoplane/model/keys.ts';
import { frameChains, localIndex, setsOf } from './layout.ts';

/** A rule of a chain that elements go to. Everything with a condition is in the frame, so these are few and plain. */
export type Rule =
  | { readonly t: 'jump'; readonly chain: string }
  | { readonly t: 'goto'; readonly chain: string }
  /** Destination from `map` by (frontend, a drawn index). */
  | {
      readonly t: 'dnat';
      readonly family: Family;
      readonly frontend: 'service' | 'node-port';
      readonly map: string;
      readonly modulus: number;
      readonly offset: number;
    }
  /** Destination from the affinity map by the client's address; a client that is not in it goes on. */
  | { readonly t: 'dnat-known'; readonly family: Family; readonly map: string; readonly proto: string }
  /** Puts (client, endpoint) into the affinity map, or renews the timeout of what is there. */
  | { readonly t: 'learn'; readonly family: Family; readonly map: string };

export interface Chain {
  readonly name: string;
  readonly comment: string | null;
  readonly rules: readonly Rule[];
}

const families: readonly Family[] = ['IPv4', 'IPv6'];
const header = (family: Family): string => (family === 'IPv4' ? 'ip' : 'ip6');

export function ruleText(rule: Rule): string {
  switch (rule.t) {
    case 'jump':
    case 'goto':
      return `${rule.t} ${rule.chain}`;
    case 'dnat': {
      const ip = header(rule.family);
      const frontend =
        rule.frontend === 'service' ? `${ip} daddr . meta l4proto . th dport` : 'meta l4proto . th dport';
      const offset = rule.offset === 0 ? '' : ` offset ${rule.offset}`;
      return `dnat ${ip} to ${frontend} . numgen random mod ${rule.modulus}${offset} map @${rule.map}`;
    }
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

/**
 * The chains for one choice of endpoints, those that others need first; the last one is the choice itself.
 *
 * Names compose: endpoints-3 draws one of three; endpoints-3-ID first asks the affinity map; internal-3-ID
 * marks off-cluster clients before that. node-port-... do the same for node ports, local-... for the Local list.
 */
export interface Choice {
  readonly frontend: 'service' | 'node-port';
  /** What happens before: 'none' | marks clients that are not in the cluster | marks everybody. */
  readonly mark: 'none' | 'off-cluster' | 'all';
  readonly list: 'first' | 'local';
  readonly count: number;
  readonly affinity: Affinity | null;
}

export function choiceName(choice: Choice): string {
  const wrapper = choice.mark === 'none' ? '' : choice.mark === 'all' ? 'external-' : 'internal-';
  return wrapper === '' ? pickerName(choice) : `${prefix(choice)}${wrapper}${countName(choice)}`;
}

export function chainsOf(choice: Choice): Chain[] {
  const chains: Chain[] = [drawing(choice)];
  if (choice.affinity) chains.push(asking(choice, choice.affinity));
  if (choice.mark !== 'none') {
    const mark = choice.mark === 'all' ? frameChains.mark : frameChains.markOffCluster;
    chains.push({
      name: choiceName(choice),
      comment: choice.affinity?.owner ?? null,
      rules: [
        { t: 'jump', chain: mark },
        { t: 'goto', chain: pickerName(choice) },
      ],
    });
  }
  return chains;
}

const prefix = (choice: Choice): string => (choice.frontend === 'node-port' ? 'node-port-' : '');
const countName = (choice: Choice): string =>
  choice.affinity ? `${choice.count}-${choice.affinity.id}` : `${choice.count}`;
const drawName = (choice: Choice): string =>
  `${prefix(choice)}${choice.list === 'local' ? 'local-' : ''}endpoints-${choice.count}`;
const pickerName = (choice: Choice): string =>
  choice.affinity ? `${drawName(choice)}-${choice.affinity.id}` : drawName(choice);

/**
 * Draws an index. A packet that reached this chain by the element of one generation and looks its index up in the
 * next, where the service has fewer endpoints, finds nothing; so a second rule takes the first endpoint, which is there as long as
 * there is any.
 */
function drawing(choice: Choice): Chain {
  const offset = choice.list === 'local' ? localIndex : 0;
  const rules: Rule[] = [];
  for (const family of families) {
    const map = choice.frontend === 'node-port' ? setsOf[family].nodePortEndpoint : setsOf[family].endpoint;
    const dnat = { t: 'dnat', family, frontend: choice.frontend, map, offset } as const;
    rules.push({ ...dnat, modulus: choice.count });
    if (choice.count > 1) rules.push({ ...dnat, modulus: 1 });
  }
  return { name: drawName(choice), comment: null, rules };
}

function asking(choice: Choice, affinity: Affinity): Chain {
  return {
    name: pickerName(choice),
    comment: affinity.owner,
    rules: [
      ...families.map(
        (family): Rule => ({ t: 'dnat-known', family, map: affinityMap(affinity, family), proto: affinity.proto }),
      ),
      { t: 'goto', chain: drawName(choice) },
    ],
  };
}

/** Learns into every affinity given: an endpoint on both lists of a frontend is a valid memory for either. */
export function learningChain(affinities: readonly Affinity[]): Chain {
  return {
    name: learningChainName(affinities),
    comment: affinities[0]?.owner ?? null,
    rules: affinities.flatMap((affinity) =>
      families.map((family): Rule => ({ t: 'learn', family, map: affinityMap(affinity, family) })),
    ),
  };
}

export const learningChainName = (affinities: readonly Affinity[]): string =>
  `learn-${affinities.map((affinity) => affinity.id).join('-')}`;
