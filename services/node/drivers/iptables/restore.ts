import type { TableWork } from './books.ts';
import type { Table } from './frame.ts';

/** Work on one table beside whole chains: rules of ours in shared chains. */
export interface HookWork {
  /** Specifications of rules to go, as iptables-save printed them; one for each that is there. */
  readonly removed: readonly { readonly chain: string; readonly rule: string }[];
  /** Rules to stand first, in this order. */
  readonly inserted: readonly { readonly chain: string; readonly rule: string }[];
}

export const noHookWork: HookWork = { removed: [], inserted: [] };

export const isIdle = ({ chains, gone }: TableWork, hooks: HookWork = noHookWork): boolean =>
  chains.size === 0 && gone.length === 0 && hooks.removed.length === 0 && hooks.inserted.length === 0;

/**
 * One table for `iptables-restore --noflush`, committed as a whole. Naming a chain makes it or empties it, so a chain is
 * rewritten in place and a packet meets it as it was or as it will be. Chains are named in order, because iptables-nft sorts
 * them by insertion: 10,000 in no order cost it three times the CPU of the same ones in order. Hooks that are replaced are set before the old ones go.
 */
export function tableText(table: Table, { chains, gone }: TableWork, hooks: HookWork = noHookWork): string {
  const lines = [`*${table}`];
  const names = [...chains.keys()].sort();
  for (const name of names) lines.push(`:${name} - [0:0]`);
  for (const name of gone) lines.push(`:${name} - [0:0]`);
  for (const name of names) for (const rule of chains.get(name) ?? []) lines.push(`-A ${name} ${rule}`);
  for (const { chain, rule } of [...hooks.inserted].reverse()) lines.push(`-I ${chain} 1 ${rule}`);
  for (const { chain, rule } of hooks.removed) lines.push(`-D ${chain} ${rule}`);
  for (const name of gone) lines.push(`-X ${name}`);
  lines.push('COMMIT', '');
  return lines.join('\n');
}

/** Prints chains as `iptables-save` does; read in one go, since with the legacy flavour each command reads a whole table. */
export const listText = (table: Table, chains: Iterable<string>): string =>
  [`*${table}`, ...Array.from(chains, (chain) => `-S ${chain}`), 'COMMIT', ''].join('\n');
