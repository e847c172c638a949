import type { Ip } from '@octoplane/model/address.ts';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { Family, ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, entriesEqual, type RuleSet } from '@octoplane/model/rule-set.ts';
import type { Logger } from 'pino';
import { type Driver, DriverError, type Mismatch, type Refusal } from '../driver.ts';
import type { ServiceDevice } from './device.ts';
import { Frame } from './frame.ts';
import { noteText } from './frontends.ts';
import type { Iptables } from './iptables.ts';
import {
  elementText,
  type Layout,
  type LayoutSettings,
  layoutOf,
  needsMark,
  noLayout,
  ownSource,
  type PlannedElement,
} from './layout.ts';
import { Marks } from './marks.ts';
import type { NodeAddresses } from './node-addresses.ts';
import { farewellOf, type LayoutChange } from './plan.ts';
import { Programmer } from './programmer.ts';
import { surplusOf } from './prune.ts';
import { entriesIn, type Found } from './read.ts';
import { mismatchOf } from './read-back.ts';
import type { RuleOptions } from './rules.ts';
import { setsOf } from './set-names.ts';
import { type IpSets, maxCommentBytes, type SetElement } from './sets.ts';
import type { IpvsTable } from './table.ts';
import { idText } from './virtual-service.ts';
import { visibleEntry } from './visible.ts';

export interface IpvsParts {
  readonly table: IpvsTable;
  readonly sets: IpSets;
  readonly device: ServiceDevice;
  readonly iptables: Iptables;
  readonly nodeAddresses: NodeAddresses;
}

export interface IpvsSettings {
  readonly families: readonly Family[];
  readonly scheduler: string;
  readonly rules: RuleOptions;
  readonly strictArp: boolean;
  readonly logger: Logger;
}

/** The driver: README.md of this directory draws what it makes of a Service. */
export class IpvsDriver implements Driver {
  readonly name = 'ipvs';
  readonly #parts: IpvsParts;
  readonly #settings: IpvsSettings;
  readonly #frame: Frame;
  readonly #programmer: Programmer;
  readonly #marks: Marks;
  #nodeAddresses: readonly Ip[];
  #applied = 0;

  constructor(parts: IpvsParts, settings: IpvsSettings) {
    this.#parts = parts;
    this.#settings = settings;
    this.#frame = new Frame(settings.families, settings, parts);
    this.#programmer = new Programmer(parts.table, parts.sets, parts.device);
    this.#marks = new Marks(settings.rules.masqueradeBit);
    this.#nodeAddresses = parts.nodeAddresses.read();
  }

  visible(entry: Entry): Entry | null {
    return visibleEntry(entry, this.#places);
  }

  check(changes: readonly EntryChange[]): readonly Refusal[] {
    const refusals: Refusal[] = [];
    for (const { key, after } of changes) {
      if (after === null) continue;
      const note = noteText({ key, kind: 'loadBalancerIP', policy: 'Cluster' });
      if (Buffer.byteLength(note) <= maxCommentBytes) continue;
      const message = `the names of namespace and Service are too long for the comments of IP sets (${maxCommentBytes} bytes): shorten them`;
      refusals.push({ key, reason: 'unsupported', message });
    }
    return refusals;
  }

  async apply(changes: readonly EntryChange[]): Promise<void> {
    await this.#guarded(async () => {
      await this.#frame.stand();
      this.#programmer.program(changes.map((change) => this.#layoutChange(change)));
      for (const { key, after } of changes) if (!after || !needsMark(after, this.#places)) this.#marks.release(key);
      this.#applied++;
    });
  }

  async readBack(changes: readonly EntryChange[]): Promise<readonly Mismatch[]> {
    const mismatches: Mismatch[] = [];
    for (const change of changes) {
      const { key, before, after } = this.#layoutChange(change);
      // What is asked about without being changed is looked at as a whole.
      const since = entriesEqual(change.before, change.after) ? noLayout : before;
      const message = mismatchOf({ key, before: since, after }, this.#parts);
      if (message !== null) mismatches.push({ key: change.key, message });
    }
    return mismatches;
  }

  async dump(): Promise<RuleSet> {
    return this.#guarded(async () => {
      this.#nodeAddresses = this.#parts.nodeAddresses.read();
      const found = this.#find();
      this.#adopt(found);
      const entries = entriesIn(found);
      const known = new Set<string>();
      for (const entry of entries.values()) {
        const { addresses, services } = layoutOf(entry, this.#places, this.#marks.of(entry.key));
        for (const [ip, usable] of addresses) this.#programmer.addresses.own(entry.key, ip, usable);
        for (const text of services.keys()) known.add(text);
      }
      for (const [text, { id }] of found.services) if (!known.has(text)) this.#programmer.linger(id);
      return entries;
    });
  }

  async prune(wanted: RuleSet): Promise<number> {
    return this.#guarded(async () => {
      const corrected = await this.#frame.repair();
      const { addresses } = this.#programmer;
      const layouts = [...wanted.values()].map((entry) => this.#layout(entry));
      const surplus = surplusOf(layouts, addresses.entries(), this.#find());
      this.#programmer.elements('add', surplus.missing);
      const retired = this.#programmer.retire(
        surplus.services.map(({ id }) => ({ id, how: farewellOf(id.t === 'mark' ? 'TCP' : id.protocol, false) })),
      );
      const moved = this.#programmer.acquireAddresses() + this.#programmer.releaseAddresses();
      this.#programmer.elements('remove', surplus.extra);
      this.#programmer.sweep();
      return corrected + surplus.missing.length + surplus.extra.length + retired + moved;
    });
  }

  async cleanup(): Promise<void> {
    const { table } = this.#parts;
    const ours = table.services().filter((service) => service.ours);
    table.execute(ours.map(({ id }) => ({ t: 'delete-service', id })));
    await this.#frame.remove();
  }

  /** IPVS and IP sets tell nobody of changes, so what is altered there is found at the next full sync. */
  watch(onDisturbed: (what: string) => void, signal: AbortSignal): void {
    this.#parts.device.watch((what) => {
      this.#frame.doubt();
      onDisturbed(what);
    }, signal);
  }

  gauges(): Readonly<Record<string, number>> {
    return {
      ipvs_change_sets_total: this.#applied,
      ipvs_service_addresses: this.#programmer.addresses.size,
      ipvs_draining_virtual_services: this.#programmer.drains.size,
      ipvs_marks: this.#marks.size,
      ipvs_node_port_addresses: this.#nodeAddresses.length,
    };
  }

  async close(): Promise<void> {
    const { table, sets, device } = this.#parts;
    table[Symbol.dispose]();
    sets[Symbol.dispose]();
    device[Symbol.dispose]();
  }

  get #places(): LayoutSettings {
    const { families, scheduler } = this.#settings;
    return { families, scheduler, nodeAddresses: this.#nodeAddresses };
  }

  #layout(entry: Entry): Layout {
    const mark = needsMark(entry, this.#places) ? this.#marks.acquire(entry.key) : 0;
    return layoutOf(entry, this.#places, mark);
  }

  #layoutChange({ key, before, after }: EntryChange): LayoutChange {
    return {
      key,
      before: before ? layoutOf(before, this.#places, this.#marks.of(key)) : noLayout,
      after: after ? this.#layout(after) : noLayout,
    };
  }

  /** Everything of ours, as it is in the kernel. */
  #find(): Found {
    const { table, sets, device } = this.#parts;
    const elements = new Map<string, PlannedElement>();
    const sources = new Map<string, Set<string>>();
    for (const family of this.#settings.families) {
      for (const set of setsOf(family)) {
        for (const element of sets.elements(set) ?? []) {
          elements.set(elementText({ set, element }), { set, element });
          if (element.net && element.comment !== ownSource) rangeSet(sources, element).add(element.comment);
        }
      }
    }
    const index = device.index();
    return {
      elements,
      services: new Map(
        table
          .services()
          .filter((service) => service.ours)
          .map((service) => [idText(service.id), service]),
      ),
      addresses: index === 0 ? new Set() : device.addresses(index),
      scheduler: this.#settings.scheduler,
      places: this.#places,
      sources: (element) => [...rangeSet(sources, element)],
      destinations: (id) => {
        const destinations = table.destinations(id);
        if (destinations.some(({ weight }) => weight === 0)) this.#programmer.drains.add(id, false);
        return destinations;
      },
    };
  }

  /** The books anew, from the kernel. */
  #adopt(found: Found): void {
    const { addresses, drains } = this.#programmer;
    const elementIps = (role: string) =>
      [...found.elements.values()]
        .filter(({ set }) => set.name.startsWith(`octo-ipvs-${role}-`))
        .map(({ element }) => element.ip);
    const pingable = new Set(elementIps('ping'));
    addresses.reset([...found.addresses].map((ip) => [ip, pingable.has(ip)] as const));
    this.#marks.clear();
    drains.clear();
    for (const { set, element } of found.elements.values()) {
      if (element.mark && set.name.startsWith('octo-ipvs-near-'))
        this.#marks.adopt(element.comment as ServicePortKey, element.mark);
    }
  }

  async #guarded<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (cause) {
      this.#frame.doubt();
      if (cause instanceof DriverError) throw cause;
      throw new DriverError(cause instanceof Error ? cause.message : String(cause), { cause, torn: true });
    }
  }
}

const sourceKey = ({ ip, port, protocol }: SetElement): string => `${ip} ${protocol} ${port}`;

function rangeSet(sources: Map<string, Set<string>>, element: SetElement): Set<string> {
  const key = sourceKey(element);
  let ranges = sources.get(key);
  if (!ranges) {
    ranges = new Set();
    sources.set(key, ranges);
  }
  return ranges;
}
