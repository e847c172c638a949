import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Family } from '@octoplane/model/keys.ts';
import type { ServiceDevice } from './device.ts';
import type { Iptables } from './iptables.ts';
import { type RuleOptions, rulesFor } from './rules.ts';
import { setsOf } from './set-names.ts';
import type { IpSets } from './sets.ts';

/**
 * What the frontends hang on: the device, the sets, the rules, and IPVS's settings in this network namespace. The settings
 * are shared with whoever else uses IPVS here; the kernel has one of each.
 */
export class Frame {
  readonly #families: readonly Family[];
  readonly #sysctls: readonly Sysctl[];
  readonly #rules: RuleOptions;
  readonly #parts: { readonly device: ServiceDevice; readonly sets: IpSets; readonly iptables: Iptables };
  #stands = false;

  constructor(
    families: readonly Family[],
    options: { readonly rules: RuleOptions; readonly strictArp: boolean },
    parts: { readonly device: ServiceDevice; readonly sets: IpSets; readonly iptables: Iptables },
  ) {
    this.#families = families;
    this.#rules = options.rules;
    this.#sysctls = options.strictArp ? [...ipvsSysctls, ...strictArpSysctls] : ipvsSysctls;
    this.#parts = parts;
  }

  /** Before anything is added. Costs nothing after the first time, until `doubt`. */
  async stand(): Promise<void> {
    if (!this.#stands) await this.repair();
  }

  /** Something of it may be gone. */
  doubt(): void {
    this.#stands = false;
  }

  /** Returns how many parts were missing or altered. */
  async repair(): Promise<number> {
    const { device, sets, iptables } = this.#parts;
    let repaired = 0;
    for (const { file, value } of this.#sysctls) {
      if (readFileSync(file, 'utf8').trim() === value) continue;
      writeFileSync(file, value);
      repaired++;
    }
    if (device.index() === 0) {
      device.create();
      repaired++;
    }
    device.measure();
    for (const family of this.#families) {
      for (const spec of setsOf(family)) if (sets.create(spec)) repaired++;
      if (await iptables.ensure(family, rulesFor(family, this.#rules))) repaired++;
    }
    this.#stands = true;
    return repaired;
  }

  /** IPVS's settings stay as they are: somebody else may have come to rely on them. */
  async remove(): Promise<void> {
    const { device, sets, iptables } = this.#parts;
    for (const family of this.#families) {
      await iptables.remove(family);
      for (const spec of setsOf(family)) sets.destroy(spec);
    }
    device.remove();
    this.#stands = false;
  }
}

interface Sysctl {
  readonly file: string;
  readonly value: string;
}

const sysctl = (name: string, value: string): Sysctl => ({ file: join('/proc/sys/net', name), value });

/** Documentation/networking/ipvs-sysctl.rst; what each is for, and since when it does it, is in README.md of this directory. */
const ipvsSysctls: readonly Sysctl[] = [
  // Connections through IPVS are tracked, so that the rules can masquerade them.
  sysctl('ipv4/vs/conntrack', '1'),
  // A client that uses a source port again is not sent to the endpoint of its last connection.
  sysctl('ipv4/vs/conn_reuse_mode', '1'),
  // Flows to an endpoint that was removed are forgotten at once, and their next packet is balanced anew.
  sysctl('ipv4/vs/expire_nodest_conn', '1'),
  // An endpoint that takes no new connections does not keep its clients either.
  sysctl('ipv4/vs/expire_quiescent_template', '1'),
];

/** The node answers ARP for addresses only on the interface that has them: service addresses, which none has, stay silent. */
const strictArpSysctls: readonly Sysctl[] = [
  sysctl('ipv4/conf/all/arp_ignore', '1'),
  sysctl('ipv4/conf/all/arp_announce', '2'),
];
