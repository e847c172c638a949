import { cidrContains, familyOf, type Ip } from '@octoplane/model/address.ts';
import type { NodePortAddresses } from '../driver.ts';
import type { ServiceDevice } from './device.ts';
import { allFamilies } from './frontends.ts';

/** On which addresses of this node its node ports answer (P24). */
export class NodeAddresses {
  readonly #device: Pick<ServiceDevice, 'nodeAddresses' | 'defaultDevice'>;
  readonly #where: NodePortAddresses;
  readonly #named: readonly Ip[];

  /** `named`: what the user or the Node object calls the node's addresses; they are the primary ones. */
  constructor(
    device: Pick<ServiceDevice, 'nodeAddresses' | 'defaultDevice'>,
    where: NodePortAddresses,
    named: readonly Ip[],
  ) {
    this.#device = device;
    this.#where = where;
    this.#named = named;
  }

  /** Ascending. */
  read(): readonly Ip[] {
    const all = this.#device.nodeAddresses();
    const where = this.#where;
    const chosen =
      where.t === 'all'
        ? all
        : where.t === 'cidrs'
          ? all.filter(({ ip }) => where.cidrs.some((cidr) => cidrContains(cidr, ip)))
          : all.filter(({ ip }) => this.#primary(all).includes(ip));
    return chosen.map(({ ip }) => ip).sort();
  }

  /** Those that were named, and for a family in which none was, the first on the device of the default route. */
  #primary(all: ReturnType<ServiceDevice['nodeAddresses']>): readonly Ip[] {
    return allFamilies.flatMap((family) => {
      const named = this.#named.filter((ip) => familyOf(ip) === family);
      if (named.length > 0) return named;
      const device = this.#device.defaultDevice(family);
      const first = all.find((address) => address.device === device && familyOf(address.ip) === family);
      return first ? [first.ip] : [];
    });
  }
}
