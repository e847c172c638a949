import type { FSWatcher } from 'node:fs';
import { existsSync, watch } from 'node:fs';
import { join } from 'node:path';
import type { Ip } from '@octoplane/model/address.ts';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry, RuleSet } from '@octoplane/model/rule-set.ts';
import {
  type Connection,
  type Driver,
  DriverError,
  type DriverOptions,
  type Evidence,
  type Mismatch,
  type Refusal,
  type Retired,
  type ServiceTraffic,
} from '../driver.ts';
import type { NodeRole } from './addresses.ts';
import type { Books } from './books.ts';
import { type Capacity, refusals } from './capacity.ts';
import { TrafficCounts } from './counts.ts';
import { type Device, Devices } from './devices.ts';
import { directConnections } from './direct.ts';
import { type Gone, SocketEnds } from './ends.ts';
import { explain } from './explain.ts';
import { Flows } from './flows.ts';
import { Grace, type Past } from './grace.ts';
import { asDriverError } from './kernel-error.ts';
import { adoptCapacity, type KernelMaps, openMaps, pinnedMaps, sizesByMap } from './kernel-maps.ts';
import { configBytes, writeAddress } from './layout.ts';
import { detachPinned, ensureAll, type Link } from './links.ts';
import { nodePortRoles, primaryAddresses } from './node-addresses.ts';
import { LoadedObject, objectPath } from './object.ts';
import { PacketLinks } from './packets.ts';
import { makePinDirectories, type Pins, pinned, pinsUnder, removeAllPins, removeOtherLayouts } from './pins.ts';
import { type Reading, readAll } from './read.ts';
import { mismatches } from './read-back.ts';
import { render, type Writes } from './render.ts';
import { netnsCookie, socketLinks } from './sockets.ts';
import { addressElements, endpointKeys, write } from './write.ts';

/**
 * Services by eBPF. Sockets of the node's cgroup are connected to a backend in place of the service, so nothing is left to
 * do on the packet path; the maps are pinned and the programs linked under bpffs, where the next daemon finds them.
 */
export class EbpfDriver implements Driver {
  readonly name = 'ebpf';
  readonly #options: DriverOptions;
  readonly #capacity: Capacity;
  readonly #pins: Pins;
  readonly #objects: Objects;
  readonly #maps: KernelMaps;
  readonly #grace: Grace;
  readonly #links: readonly Link[];
  readonly #packetLinks: PacketLinks;
  readonly #devices: Devices;
  readonly #ends: SocketEnds;
  readonly #counts: TrafficCounts;
  readonly #flows: Flows;
  #books: Books;
  #retired = false;
  #strays: Reading['strays'];
  /** The change set that was checked last, if it fits and nothing was applied since. */
  #fits: readonly EntryChange[] | null = null;

  private constructor(parts: Parts) {
    this.#options = parts.options;
    this.#capacity = parts.capacity;
    this.#pins = parts.pins;
    this.#objects = parts.objects;
    this.#maps = parts.maps;
    this.#grace = new Grace(parts.maps.graceFd, (past) => this.#settle(past));
    this.#links = parts.links;
    this.#packetLinks = parts.packetLinks;
    this.#devices = new Devices();
    this.#ends = new SocketEnds(parts.objects.ends);
    this.#counts = new TrafficCounts(parts.maps.counts);
    this.#flows = new Flows(parts.objects.packets);
    const { books, strays } = readAll(this.#maps, this.#capacity, this.#options);
    this.#books = books;
    this.#strays = strays;
  }

  /** Loads the programs and takes over pinned maps; attaches nothing. */
  static open(options: DriverOptions, wanted: Capacity, pathOf: (object: string) => string = objectPath): EbpfDriver {
    const pins = pinsUnder(options.bpfFsPath);
    const loaded: LoadedObject[] = [];
    const load = (name: ObjectName, sizes: Readonly<Record<string, number>>): LoadedObject => {
      const object = LoadedObject.load(pathOf(name), pins.maps, sizes);
      loaded.push(object);
      return object;
    };
    try {
      makePinDirectories(pins);
      const capacity = adoptCapacity(wanted, pins.maps);
      const sizes = sizesByMap(capacity);
      const objects = { sockets: load('sockets', sizes), packets: load('packets', sizes), ends: load('ends', sizes) };
      const maps = openMaps(objects.sockets, capacity);
      const links = socketLinks(objects.sockets, pins.links, options.cgroupPath);
      const packetLinks = new PacketLinks(objects.packets, pins.links, options);
      return new EbpfDriver({ options, capacity, pins, objects, maps, links, packetLinks });
    } catch (error) {
      for (const object of loaded) object.close();
      throw asDriverError(error, false);
    }
  }

  visible(entry: Entry): Entry | null {
    if (entry.spec.healthCheckNodePort === 0) return entry;
    return { ...entry, spec: { ...entry.spec, healthCheckNodePort: 0 } };
  }

  check(changes: readonly EntryChange[]): readonly Refusal[] {
    const refused = refusals(changes, this.#books, this.#capacity);
    this.#fits = refused.length === 0 ? changes : null;
    return refused;
  }

  async apply(changes: readonly EntryChange[]): Promise<void> {
    const refused = this.#fits === changes ? [] : this.check(changes);
    this.#fits = null;
    if (refused.length > 0) throw new DriverError(firstOf(refused), { refusals: refused });
    try {
      const writes = render(
        changes.map((change) => this.#visibleChange(change)),
        this.#books,
      );
      this.#write(writes);
    } catch (error) {
      throw asDriverError(error, true);
    }
  }

  async readBack(changes: readonly EntryChange[]): Promise<readonly Mismatch[]> {
    return mismatches(
      changes.map((change) => this.#visibleChange(change)),
      this.#books,
      this.#maps,
    );
  }

  async dump(): Promise<RuleSet> {
    try {
      const { books, strays } = readAll(this.#maps, this.#capacity, this.#options);
      this.#books = books;
      this.#strays = strays;
      this.#fits = null;
    } catch (error) {
      throw asDriverError(error, false);
    }
    return new Map(Array.from(this.#books.services, ([key, { entry }]) => [key, entry]));
  }

  async prune(wanted: RuleSet): Promise<number> {
    try {
      const devices = this.#devices.read();
      return (
        this.#removeUnwanted(wanted) + this.#putConfig(devices) + this.#putAddresses(devices) + this.#putLinks(devices)
      );
    } catch (error) {
      throw asDriverError(error, true);
    }
  }

  async cleanup(): Promise<void> {
    try {
      for (const name of pinned(this.#pins.links)) detachPinned(join(this.#pins.links, name));
      removeAllPins(this.#pins);
    } catch (error) {
      throw asDriverError(error, true);
    }
  }

  /**
   * One word tells all programs at once. The maps stay and follow the rule set: flows go on by them, and end with their
   * endpoints.
   */
  async retire(track: (connections: readonly Connection[]) => void): Promise<RetiredEbpf | null> {
    if (pinned(this.#pins.links).length === 0) {
      await this.cleanup();
      return null;
    }
    try {
      const devices = this.#devices.read();
      // Programs of an earlier release do not know the word.
      this.#putLinks(devices);
      // Before and after, so that none begins in between.
      this.#trackSockets(track);
      this.#retired = true;
      this.#putConfig(devices);
      this.#trackSockets(track);
    } catch (error) {
      throw asDriverError(error, true);
    }
    return {
      follow: (changes) => this.apply(changes),
      ended: async (nowNs = process.hrtime.bigint()) => {
        if (this.#flows.anyAlive(nowNs)) return false;
        await this.cleanup();
        return true;
      },
    };
  }

  /** bpffs tells of pins that are removed, by which attachments end when the daemon does; netlink of devices. */
  watch(onDisturbed: (what: string) => void, signal: AbortSignal): void {
    this.#devices.follow(() => this.#followDevices(onDisturbed), signal);
    const watchers: FSWatcher[] = [this.#pins.links, this.#pins.maps].map((path) =>
      watch(path, { signal }, () => {
        const missing = this.#missingPin();
        if (missing !== null) onDisturbed(`${missing} was removed`);
      }),
    );
    for (const watcher of watchers)
      watcher.on('error', (error) => this.#options.logger.warn({ error }, 'pins are no longer watched'));
  }

  gauges(): Readonly<Record<string, number>> {
    return {
      ebpf_frontends: this.#books.owners.size,
      ebpf_frontends_max: this.#capacity.frontends,
      ebpf_services: this.#books.services.size,
      ebpf_services_max: this.#capacity.services,
      ebpf_backend_slots: this.#books.slots.used,
      ebpf_backend_slots_max: this.#capacity.backends,
      ebpf_addresses: this.#books.addresses.size,
      ebpf_addresses_max: this.#capacity.addresses,
      ebpf_source_ranges: this.#books.ranges,
      ebpf_source_ranges_max: this.#capacity.ranges,
      ebpf_sets_in_grace: this.#grace.waiting,
    };
  }

  traffic(): readonly ServiceTraffic[] {
    return this.#counts.read(this.#books);
  }

  explain(key: ServicePortKey): readonly Evidence[] {
    const held = this.#books.services.get(key);
    return held === undefined ? [] : [...explain(held, this.#maps)];
  }

  async close(): Promise<void> {
    await this.#grace.close();
    for (const link of this.#links) link.close();
    this.#packetLinks.close();
    this.#devices[Symbol.dispose]();
    this.#ends.close();
    this.#maps.backends.close();
    for (const name of objectNames) this.#objects[name].close();
  }

  #visibleChange({ key, before, after }: EntryChange): EntryChange {
    return { key, before, after: after && this.visible(after) };
  }

  #write(writes: Writes): void {
    write(writes, this.#maps);
    this.#ends.end(writes.gone);
    this.#grace.await({ garbage: writes.garbage, gone: writes.gone, slots: this.#books.slots });
  }

  /** Programs that were running when frontends moved on may have connected sockets to an endpoint that had just gone. */
  #settle(past: readonly Past[]): void {
    this.#ends.end(past.flatMap(({ gone }) => gone).filter((each) => !this.#isBack(each)));
    for (const { garbage, slots } of past) for (const block of garbage) slots.release(block);
  }

  #isBack({ key, service, backend }: Gone): boolean {
    const held = this.#books.services.get(key);
    if (held?.id !== service) return false;
    return held.entry.endpoints.some(({ ip, port }) => ip === backend.ip && port === backend.port);
  }

  #removeUnwanted(wanted: RuleSet): number {
    const unwanted = [...this.#books.services.keys()].filter((key) => !wanted.has(key));
    const { frontends, services } = this.#strays;
    const orphans = frontends.filter(({ ip, port, protocol }) => !this.#books.owners.has(`${ip}|${port}|${protocol}`));
    const writes = render(
      unwanted.map((key) => ({ key, before: this.#books.services.get(key)?.entry ?? null, after: null })),
      this.#books,
    );
    this.#write(writes);
    this.#maps.frontends.remove(endpointKeys(orphans));
    const ids = Buffer.alloc(services.length * 4);
    for (const [i, id] of services.entries()) ids.writeUInt32LE(id, i * 4);
    this.#maps.services.remove(ids);
    this.#strays = { frontends: [], services: [] };
    return unwanted.length + orphans.length + services.length;
  }

  #trackSockets(track: (connections: readonly Connection[]) => void): void {
    const object = LoadedObject.load(objectPath('direct'), this.#pins.maps, {});
    try {
      track(directConnections(object));
    } finally {
      object.close();
    }
  }

  /** Whose namespace the node's is, and what it is called: facts that change with the daemon's place, not with services. */
  #putConfig(devices: readonly Device[]): number {
    const wanted = this.#maps.config.elements(1);
    wanted.values.writeBigUInt64LE(netnsCookie());
    for (const ip of primaryAddresses(devices, this.#options.nodeAddresses))
      writeAddress(wanted.values, ip.includes(':') ? 24 : 8, ip);
    wanted.values.writeUInt32LE(this.#retired ? 1 : 0, 40);
    const current = Buffer.alloc(configBytes);
    this.#maps.config.read(wanted.keys, current);
    if (current.equals(wanted.values)) return 0;
    this.#maps.config.write(wanted);
    return 1;
  }

  /** Compares the whole map, because the addresses of the node come and go without us. */
  #putAddresses(devices: readonly Device[]): number {
    const book = this.#books.addresses;
    book.setNode(this.#nodeRoles(devices));
    book.takeChanged();
    const wanted = new Map<string, number>();
    const all = [...book.all()].map((ip) => ({ ip, value: book.value(ip) })).filter(hasValue);
    const elements = addressElements(all, this.#maps);
    for (let i = 0; i < all.length; i++) wanted.set(elements.keys.toString('latin1', i * 16, i * 16 + 16), i);
    const unwanted: Buffer[] = [];
    for (const { keys, values, count } of this.#maps.addresses.chunks())
      for (let i = 0; i < count; i++) {
        const key = keys.toString('latin1', i * 16, i * 16 + 16);
        const at = wanted.get(key);
        if (at === undefined) unwanted.push(Buffer.from(key, 'latin1'));
        else if (elements.values.readUInt32LE(at * 4) === values.readUInt32LE(i * 4)) wanted.delete(key);
      }
    const missing = this.#maps.addresses.elements(wanted.size);
    for (const [i, at] of [...wanted.values()].entries()) {
      elements.keys.copy(missing.keys, i * 16, at * 16, at * 16 + 16);
      elements.values.copy(missing.values, i * 4, at * 4, at * 4 + 4);
    }
    this.#maps.addresses.write(missing);
    this.#maps.addresses.remove(Buffer.concat(unwanted));
    return missing.count + unwanted.length;
  }

  #missingPin(): string | null {
    const maps = objectNames.flatMap((name) => pinnedMaps[name]).map((name) => join(this.#pins.maps, name));
    const links = [...this.#links, ...this.#packetLinks.all()].map(({ path }) => path);
    return [...maps, ...links].find((path) => !existsSync(path)) ?? null;
  }

  #nodeRoles(devices: readonly Device[]): ReadonlyMap<Ip, NodeRole> {
    const primary = primaryAddresses(devices, this.#options.nodeAddresses);
    return nodePortRoles(devices, this.#options.nodePortAddresses, primary);
  }

  /** A pod's device came, or an address: what follows from it costs as much as that, and needs no reconciliation. */
  #followDevices(onDisturbed: (what: string) => void): void {
    try {
      const devices = this.#devices.read();
      this.#putConfig(devices);
      this.#books.addresses.setNode(this.#nodeRoles(devices));
      write(render([], this.#books), this.#maps);
      const links = this.#packetLinks.on(devices);
      ensureAll(links);
      this.#packetLinks.removeAllBut(links);
    } catch (error) {
      this.#options.logger.warn({ error }, 'devices could not be followed; the next reconciliation tries again');
      onDisturbed('devices changed');
    }
  }

  #putLinks(devices: readonly Device[]): number {
    makePinDirectories(this.#pins);
    const packetLinks = this.#packetLinks.on(devices);
    let put = ensureAll([...this.#links, ...packetLinks]) + this.#packetLinks.removeAllBut(packetLinks);
    for (const name of objectNames) put += this.#objects[name].ensurePins(this.#pins.maps, pinnedMaps[name]);
    return put + removeOtherLayouts(this.#pins);
  }
}

interface RetiredEbpf extends Retired {
  /** `nowNs`: on the clock of the programs, CLOCK_MONOTONIC. */
  ended(nowNs?: bigint): Promise<boolean>;
}

const objectNames = ['sockets', 'packets', 'ends'] as const;
type ObjectName = (typeof objectNames)[number];
type Objects = Readonly<Record<ObjectName, LoadedObject>>;

interface Parts {
  readonly options: DriverOptions;
  readonly capacity: Capacity;
  readonly pins: Pins;
  readonly objects: Objects;
  readonly maps: KernelMaps;
  readonly links: readonly Link[];
  readonly packetLinks: PacketLinks;
}

/** As many as a person reads. */
function firstOf(refused: readonly Refusal[]): string {
  const first = refused.slice(0, 3).map(({ key, message }) => `${key}: ${message}`);
  const more = refused.length - first.length;
  return [...first, ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
}

const hasValue = <T extends { value: unknown }>(item: T): item is T & { value: NonNullable<T['value']> } =>
  item.value !== null;
