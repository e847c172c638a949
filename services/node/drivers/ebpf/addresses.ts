import { familyOf, type Ip } from '@octoplane/model/address.ts';
import { type Entry, endpointFlags, familyBit } from '@octoplane/model/rule-set.ts';
import type { IcmpMode } from '../driver.ts';
import { frontendsOf } from './frontends.ts';
import { addressRoles, echoActions, frontendKinds } from './layout.ts';

export interface AddressValue {
  readonly roles: number;
  readonly echo: number;
}

/**
 * Why each address is in the map of addresses: counted, because several service ports share an address, and an address of
 * the node may be a load balancer's as well.
 */
export class AddressBook {
  readonly #icmp: IcmpMode;
  readonly #uses = new Map<Ip, Uses>();
  #node: ReadonlyMap<Ip, NodeRole> = new Map();
  #changed = new Set<Ip>();

  constructor(icmp: IcmpMode) {
    this.#icmp = icmp;
  }

  get size(): number {
    return this.#uses.size + this.#node.size;
  }

  /** Accounts for an entry that takes the place of another. */
  replace(before: Entry | null, after: Entry | null): void {
    if (before) this.#count(before, -1);
    if (after) this.#count(after, 1);
  }

  setNode(addresses: ReadonlyMap<Ip, NodeRole>): void {
    for (const ip of this.#node.keys()) this.#changed.add(ip);
    for (const ip of addresses.keys()) this.#changed.add(ip);
    this.#node = addresses;
  }

  /** Addresses whose value may differ since the last call. */
  takeChanged(): readonly Ip[] {
    const changed = [...this.#changed];
    this.#changed = new Set();
    return changed;
  }

  all(): Iterable<Ip> {
    return new Set([...this.#uses.keys(), ...this.#node.keys()]);
  }

  /** Null: the map should not have it. */
  value(ip: Ip): AddressValue | null {
    const uses = this.#uses.get(ip);
    const node = this.#node.get(ip);
    if (uses === undefined && node === undefined) return null;
    const service = uses !== undefined && uses.clusterIp + uses.external > 0;
    return {
      roles:
        (node === undefined ? 0 : addressRoles[node]) |
        (uses !== undefined && uses.clusterIp > 0 ? addressRoles.clusterIp : 0) |
        (uses !== undefined && uses.external > 0 ? addressRoles.external : 0) |
        (uses !== undefined && uses.localBackend > 0 ? addressRoles.localBackend : 0),
      // The kernel answers for its own addresses.
      echo: service && node === undefined ? this.#echo(uses.usable > 0) : echoActions.pass,
    };
  }

  #echo(usable: boolean): number {
    if (this.#icmp === 'drop') return echoActions.drop;
    return this.#icmp === 'reply' && usable ? echoActions.reply : echoActions.reject;
  }

  #count(entry: Entry, by: 1 | -1): void {
    for (const { ip, kinds } of frontendsOf(entry.key, entry.spec)) {
      if (kinds === frontendKinds.nodePort) continue;
      const usable = (entry.spec.usableFamilies & familyBit(familyOf(ip))) !== 0;
      this.#add(ip, kinds & frontendKinds.clusterIp ? 'clusterIp' : 'external', by);
      if (usable) this.#add(ip, 'usable', by);
    }
    if (entry.spec.externalPolicy === 'Local' || entry.spec.internalPolicy === 'Local')
      for (const { ip, flags } of entry.endpoints) if (flags & endpointFlags.local) this.#add(ip, 'localBackend', by);
  }

  #add(ip: Ip, use: keyof Uses, by: number): void {
    const uses = this.#uses.get(ip) ?? { clusterIp: 0, external: 0, usable: 0, localBackend: 0 };
    uses[use] += by;
    if (uses.clusterIp + uses.external + uses.usable + uses.localBackend === 0) this.#uses.delete(ip);
    else this.#uses.set(ip, uses);
    this.#changed.add(ip);
  }
}

/** `loopback`: for sockets of the node's own namespace only. */
export type NodeRole = 'node' | 'loopback';

interface Uses {
  clusterIp: number;
  external: number;
  usable: number;
  localBackend: number;
}
