import { basename, join } from 'node:path';
import type { Device } from './devices.ts';
import { attachTypes, detachPinned, Link } from './links.ts';
import { isOuter, type PodPlaces } from './node-addresses.ts';
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
  readonly #pods: PodPlaces;
  readonly #links = new Map<string, Link>();

  constructor(object: LoadedObject, directory: string, pods: PodPlaces) {
    this.#object = object;
    this.#directory = directory;
    this.#pods = pods;
  }

  /** The links that these devices should have, there or not. */
  on(devices: readonly Device[]): readonly Link[] {
    return devices.flatMap((device) => this.#hooksOf(device).map((hook) => this.#link(hook, device.index)));
  }

  /** Detaches from where there should be none. Returns how many there were. */
  removeAllBut(wanted: readonly Link[]): number {
    const names = new Set(wanted.map(({ path }) => basename(path)));
    let removed = 0;
    for (const name of pinned(this.#directory)) {
      if (names.has(name) || !/^(outside|inside|leaving)-[0-9]+$/.test(name)) continue;
      this.#links.get(name)?.close();
      this.#links.delete(name);
      detachPinned(join(this.#directory, name));
      removed++;
    }
    return removed;
  }

  all(): Iterable<Link> {
    return this.#links.values();
  }

  close(): void {
    for (const link of this.#links.values()) link.close();
  }

  #hooksOf(device: Device): readonly Hook[] {
    if (!device.ethernet) return [];
    return isOuter(device, this.#pods) ? ['outside', 'leaving'] : ['inside'];
  }

  #link(hook: Hook, index: number): Link {
    const name = `${hook}-${index}`;
    let link = this.#links.get(name);
    if (!link) {
      const { program, attachType } = hooks[hook];
      const at = { directory: this.#directory, name };
      link = new Link(at, this.#object.programFd(program), attachType, { t: 'device', index });
      this.#links.set(name, link);
    }
    return link;
  }
}
