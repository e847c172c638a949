import { hash } from 'node:crypto';
import type { ServicePortKey } from '@octoplane/model/keys.ts';

/**
 * Chain names. iptables allows 28 characters and Service names are longer, so chains of a service port carry a hash; the
 * name itself stands in the comment of every rule that jumps there.
 */
export const prefix = 'OCTO-';

export const isOurs = (chain: string): boolean => chain.startsWith(prefix);

/** The frame: the same chains whatever the rule set is. */
export const frameNames = {
  /** Entered from the hooks; holds addresses, then node ports. */
  services: 'OCTO-SERVICES',
  /** Root of the tree over service addresses. */
  addresses: 'OCTO-IP',
  /** Root of the tree over node ports. */
  nodePorts: 'OCTO-NP',
  postrouting: 'OCTO-POSTROUTING',
  /** Sets the mark that POSTROUTING masquerades. */
  masquerade: 'OCTO-MASQ',
  /** The same, for sources that are not pods. */
  offCluster: 'OCTO-OFFCLUSTER',
  /** Answers pings of service addresses in the node's name. */
  ping: 'OCTO-PING',
  reject: 'OCTO-REJECT',
  forward: 'OCTO-FORWARD',
} as const;

/**
 * SVC: endpoints of the Cluster policy. LOC: those of the Local policy. EXT: what external traffic passes before it is
 * given one of the two. RNG: load balancer source ranges, before EXT.
 */
export type ServiceChainKind = 'SVC' | 'LOC' | 'EXT' | 'RNG';

export const serviceChain = (kind: ServiceChainKind, key: ServicePortKey): string => `${prefix}${kind}-${keyHash(key)}`;

let hashed: { readonly key: ServicePortKey; readonly hash: string } | null = null;

/**
 * 64 bits: at 100,000 service ports the odds of a clash are one in four thousand million. The names of one service port are
 * asked for one after the other, so the last hash is kept.
 */
export function keyHash(key: ServicePortKey): string {
  if (hashed?.key !== key) hashed = { key, hash: hash('sha256', key).slice(0, 16).toUpperCase() };
  return hashed.hash;
}

/** The chain of a branch of a tree: its nibbles, or a hash where they are too many for a name. */
export function branchChain(root: string, nibbles: string): string {
  if (nibbles === '') return root;
  return nibbles.length <= 16 ? `${root}-${nibbles}` : `${root}-X${hash('sha256', nibbles).slice(0, 16)}`;
}
