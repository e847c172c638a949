import { join } from 'node:path';
import type { Cidr } from '@octoplane/model/address.ts';
import type { Device } from './devices.ts';
import { attachTypes, detachPinned, Link } from './links.ts';
import { isOuter } from './node-addresses.ts';
import type { LoadedObject } from './object.ts';
import { pinned } from './pins.ts';

const hooks = {
  outside: { program: 'octo_outside', attachType: attachTypes.tcxIngress },
  inside: { program: 'octo_inside', attachType: attachTypes.tcxIngress },
  leaving: { program: 'octo_leaving', attachType: attachTypes.tcxEgress },
} as const;
type Hook = keyof typeof hooks;

/**
 * The packet programs on the node's devices: in and out of those that lead outside, into the node on those of pods. Devices
 * come and go; a link goes with its device, and only its pin has to be removed.
 */
export class PacketLinks {
  readonly #object: LoadedObject;
  readonly #directory: string;
  readonly #podNetworks: readonly Cidr[];
  readonly #links = new Map<string, Link>();

  constructor(object: LoadedObject, directory: string, podNetworks: readonly Cidr[]) {
    this.#object = object;
    this.#directory = directory;
    this.#podNetworks = podNetworks;
  }

  /** Attaches where it should be and is not, and detaches where it should not be. Returns how many were put right. */
  ensure(devices: readonly Device[]): number {
    const wanted = new Map<string, { hook: Hook; index: number }>();
    for (const device of devices)
      for (const hook of this.#hooksOf(device)) wanted.set(`${hook}-${device.index}`, { hook, index: device.index });
    let put = this.#removeOthers(wanted);
    for (const [name, { hook, index }] of wanted) {
      let link = this.#links.get(name);
      if (!link) {
        const { program, attachType } = hooks[hook];
        const at = { directory: this.#directory, name };
        link = new Link(at, this.#object.programFd(program), attachType, { t: 'device', index });
        this.#links.set(name, link);
      }
      if (link.ensure()) put++;
    }
    return put;
  }

  all(): Iterable<Link> {
    return this.#links.values();
  }

  close(): void {
    for (const link of this.#links.values()) link.close();
  }

  #hooksOf(device: Device): readonly Hook[] {
    if (!device.ethernet) return [];
    return isOuter(device, this.#podNetworks) ? ['outside', 'leaving'] : ['inside'];
  }

  #removeOthers(wanted: ReadonlyMap<string, unknown>): number {
    let removed = 0;
    for (const name of pinned(this.#directory)) {
      if (wanted.has(name) || !/^(outside|inside|leaving)-[0-9]+$/.test(name)) continue;
      this.#links.get(name)?.close();
      this.#links.delete(name);
      detachPinned(join(this.#directory, name));
      removed++;
    }
    return removed;
  }
}
