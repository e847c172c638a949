import type { Ip } from '@octoplane/model/address.ts';

/** What is to be done to the kernel, after owners came and went. */
export interface AddressChanges {
  readonly added: readonly Ip[];
  readonly removed: readonly Ip[];
  readonly pingable: readonly Ip[];
  readonly unpingable: readonly Ip[];
}

/** Several service ports share an address: it stays as long as one of its owners does, and answers pings if one of them wants that. */
export class AddressBook {
  readonly #owners = new Map<Ip, Map<string, boolean>>();
  readonly #inKernel = new Map<Ip, boolean>();
  readonly #touched = new Set<Ip>();

  get size(): number {
    return this.#owners.size;
  }

  /** Is it a service address, as opposed to one of the node's? */
  isKnown(ip: Ip): boolean {
    return this.#owners.has(ip) || this.#inKernel.has(ip);
  }

  own(owner: string, ip: Ip, pingable: boolean): void {
    let owners = this.#owners.get(ip);
    if (!owners) {
      owners = new Map();
      this.#owners.set(ip, owners);
    }
    owners.set(owner, pingable);
    this.#touched.add(ip);
  }

  disown(owner: string, ip: Ip): void {
    const owners = this.#owners.get(ip);
    if (!owners?.delete(owner)) return;
    if (owners.size === 0) this.#owners.delete(ip);
    this.#touched.add(ip);
  }

  /** Starts anew from what was read: addresses in the kernel, with whether they answer pings. Those that get no owner are released. */
  reset(inKernel: Iterable<readonly [Ip, boolean]>): void {
    this.#owners.clear();
    this.#inKernel.clear();
    this.#touched.clear();
    for (const [ip, pingable] of inKernel) {
      this.#inKernel.set(ip, pingable);
      this.#touched.add(ip);
    }
  }

  /** What has to be added now; the book takes it as done. Addresses that nobody owns any more wait for `releases`. */
  acquisitions(): Pick<AddressChanges, 'added' | 'pingable'> {
    const added: Ip[] = [];
    const pingable: Ip[] = [];
    for (const ip of this.#touched) {
      const owners = this.#owners.get(ip);
      if (!owners) continue;
      const wanted = owners.values().some((ping) => ping);
      const known = this.#inKernel.get(ip);
      if (known === undefined) added.push(ip);
      if (wanted && known !== true) pingable.push(ip);
      this.#inKernel.set(ip, wanted || known === true);
    }
    return { added, pingable };
  }

  releases(): Pick<AddressChanges, 'removed' | 'unpingable'> {
    const removed: Ip[] = [];
    const unpingable: Ip[] = [];
    for (const ip of this.#touched) {
      const owners = this.#owners.get(ip);
      const known = this.#inKernel.get(ip);
      const wanted = owners?.values().some((ping) => ping) ?? false;
      if (known === true && !wanted) unpingable.push(ip);
      if (!owners && known !== undefined) removed.push(ip);
      if (owners) this.#inKernel.set(ip, wanted);
      else this.#inKernel.delete(ip);
    }
    this.#touched.clear();
    return { removed, unpingable };
  }

  /** Everything owned, with whether it answers pings. */
  *entries(): Generator<readonly [Ip, boolean]> {
    for (const [ip, owners] of this.#owners) yield [ip, owners.values().some((ping) => ping)];
  }
}
