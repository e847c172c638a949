import { familyOf, type Ip } from '@octoplane/model/address.ts';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { Family, ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, specsEqual } from '@octoplane/model/rule-set.ts';
import type { Refusal } from '../driver.ts';
import {
  type Affinity,
  affinityMap,
  type Balance,
  balanceChains,
  balanceName,
  balances,
  type Chain,
  leastSize,
  sizeFor,
} from './chains.ts';
import { Counts } from './counts.ts';
import {
  affinitiesOf,
  type Demand,
  demandOf,
  endpointAt,
  type FamilySlots,
  indexCount,
  indexElements,
  listsOf,
  noFamilySlots,
  type Placed,
  portOf,
} from './demand.ts';
import { type Element, elementId, elementsEqual } from './element.ts';
import { families, frontendNames, frontendsOf } from './frontends.ts';
import { setsOf } from './layout.ts';
import type { Operation } from './operation.ts';
import { refusalsOf } from './refusals.ts';
import { assignSlots, type Slots, sameEndpoint } from './slots.ts';
import { visibleEntry } from './visible.ts';

/** A transaction that was worked out, and what becomes true when the kernel has taken it. */
export interface Plan {
  readonly operations: readonly Operation[];
  /** Clients that an affinity map still leads to an endpoint that is gone. */
  readonly stale: readonly StaleAffinity[];
  commit(): void;
  rollback(): void;
}

export interface StaleAffinity {
  readonly map: string;
  readonly family: Family;
  /** "ip port" */
  readonly endpoints: ReadonlySet<string>;
}

/**
 * What this driver believes to be in its table: every entry with the index of each endpoint, and how often the objects that entries
 * share are needed. All else follows from these, so the books hold no elements; a change is the difference
 * between what follows from the entry before and after it.
 */
export class Books {
  readonly #placed = new Map<ServicePortKey, Placed>();
  /** The largest size that each balancing chain has been made for, by the name of the first. It never shrinks. */
  readonly #sizes = new Map<string, number>();
  readonly #owners = new Map<string, ServicePortKey>();
  readonly #clusterIps = new Counts<Ip>();
  readonly #pings = new Counts<Ip>();
  readonly #hairpins = new Counts<Ip>();
  /** Elements in our table that belong to no entry as far as could be told. An entry that wants one takes it over. */
  readonly #debris = new Map<string, Element>();

  get entries(): ReadonlyMap<ServicePortKey, Placed> {
    return this.#placed;
  }

  get debris(): ReadonlyMap<string, Element> {
    return this.#debris;
  }

  /** The chains that are not in the frame, those that others need first. */
  chains(): Chain[] {
    const chains = balances.flatMap((balance) => balanceChains(balance, this.#largest(balance)));
    for (const placed of this.#placed.values()) {
      if (placed.entry.spec.affinityTimeoutSeconds > 0) chains.push(...demandOf(placed).chains.values());
    }
    return chains;
  }

  /** Takes note of how far the balancing chains reach. */
  adoptBalances(chains: ReadonlySet<string>): void {
    for (const balance of balances) {
      let size = leastSize;
      while (chains.has(balanceName(balance, size * 2))) size *= 2;
      this.#sizes.set(balanceName(balance), size);
    }
  }

  affinityMaps(): Set<string> {
    const maps = new Set<string>();
    for (const { entry } of this.#placed.values()) {
      if (entry.spec.affinityTimeoutSeconds === 0) continue;
      const { cluster, local } = affinitiesOf(entry.key, portOf(entry.key).proto, entry.spec);
      for (const affinity of [cluster, local]) {
        if (affinity) for (const family of families) maps.add(affinityMap(affinity, family));
      }
    }
    return maps;
  }

  /** Every element that an entry needs, shared ones included. */
  elementsOf(key: ServicePortKey): Element[] {
    const placed = this.#placed.get(key);
    if (placed === undefined) return [];
    const demand = demandOf(placed);
    return [
      ...demand.elements,
      ...allIndexes(placed),
      ...demand.clusterIps.map((ip) => sharedElement('clusterIp', ip)),
      ...demand.pings.map((ip) => sharedElement('ping', ip)),
      ...placed.entry.endpoints.map(({ ip }) => sharedElement('hairpin', ip)),
    ];
  }

  get endpointCount(): number {
    let count = 0;
    for (const { entry } of this.#placed.values()) count += entry.endpoints.length;
    return count;
  }

  hasHairpin(ip: Ip): boolean {
    return this.#hairpins.has(ip);
  }

  clear(): void {
    this.#placed.clear();
    this.#owners.clear();
    for (const counts of [this.#clusterIps, this.#pings, this.#hairpins]) counts.clear();
    this.#debris.clear();
  }

  check(changes: readonly EntryChange[]): readonly Refusal[] {
    return refusalsOf(changes, this.#owners, this.#placed);
  }

  addDebris(element: Element): void {
    this.#debris.set(elementId(element), element);
  }

  dropDebris(): void {
    this.#debris.clear();
  }

  /** Takes in an entry that is in the kernel already, as it was found. */
  adopt(placed: Placed): void {
    this.#count(null, placed, null, demandOf(placed));
    for (const counts of this.#shared()) counts.commit();
    this.#hold(placed.entry.key, placed);
  }

  /**
   * The transaction that brings the changes about. Only one plan may be open at a time: it ends with commit or rollback.
   */
  plan(changes: readonly EntryChange[]): Plan {
    const draft = new Draft(this.#debris);
    const next = new Map<ServicePortKey, Placed | null>();
    for (const { key, after } of changes) {
      const before = next.get(key) ?? this.#placed.get(key) ?? null;
      const visible = after === null ? null : visibleEntry(after);
      const placed = visible === null ? null : place(visible, before);
      this.#change(draft, key, before, placed);
      next.set(key, placed);
    }
    this.#sharedElements(draft);
    const grown = this.#grown(next.values());
    return {
      operations: draft.operations(grown.flatMap(({ balance, size }) => balanceChains(balance, size))),
      stale: draft.stale,
      commit: () => {
        for (const counts of this.#shared()) counts.commit();
        for (const id of draft.reclaimed) this.#debris.delete(id);
        for (const [key, placed] of next) this.#hold(key, placed);
        for (const { balance, size } of grown) this.#sizes.set(balanceName(balance), size);
      },
      rollback: () => {
        for (const counts of this.#shared()) counts.rollback();
      },
    };
  }

  #largest(balance: Balance): number {
    return this.#sizes.get(balanceName(balance)) ?? leastSize;
  }

  /** Balances that have to reach further for these entries. */
  #grown(entries: Iterable<Placed | null>): { readonly balance: Balance; readonly size: number }[] {
    let [cluster, local] = [0, 0];
    for (const placed of entries) {
      for (const family of families) {
        cluster = Math.max(cluster, placed?.slots[family].cluster.length ?? 0);
        local = Math.max(local, placed?.slots[family].local.length ?? 0);
      }
    }
    // The local list comes first where a frontend has no other (internalTrafficPolicy Local).
    return balances
      .map((balance) => ({ balance, size: sizeFor(balance.list === 'local' ? local : Math.max(cluster, local)) }))
      .filter(({ balance, size }) => size > this.#largest(balance));
  }

  #shared(): Counts<string>[] {
    return [this.#clusterIps, this.#pings, this.#hairpins];
  }

  #change(draft: Draft, key: ServicePortKey, before: Placed | null, after: Placed | null): void {
    const sameShape = before !== null && after !== null && demandsAlike(before, after);
    const oldDemand = before === null || sameShape ? null : demandOf(before);
    const newDemand = after === null || sameShape ? null : demandOf(after);
    if (!sameShape) {
      draft.replace(key, oldDemand?.elements ?? [], newDemand?.elements ?? []);
      draft.affinities(oldDemand?.affinities ?? [], newDemand?.affinities ?? []);
      draft.chains(oldDemand?.chains, newDemand?.chains);
    }
    this.#count(before, after, oldDemand, newDemand);
    if (before && after && sameFrontends(before.entry, after.entry)) {
      for (const family of families) {
        for (const list of ['cluster', 'local'] as const) draft.indexes(key, before, after, family, list);
      }
    } else {
      draft.replace(key, allIndexes(before), allIndexes(after));
    }
    if (before && after) draft.forget(before, after);
  }

  #count(before: Placed | null, after: Placed | null, oldDemand: Demand | null, newDemand: Demand | null): void {
    for (const [demand, sign] of [
      [oldDemand, -1],
      [newDemand, 1],
    ] as const) {
      if (demand === null) continue;
      for (const ip of demand.clusterIps) this.#clusterIps.add(ip, sign);
      for (const ip of demand.pings) this.#pings.add(ip, sign);
    }
    for (const family of families) {
      for (const list of ['cluster', 'local'] as const) {
        const held = before?.slots[family][list] ?? [];
        const wanted = after?.slots[family][list] ?? [];
        for (let i = 0; i < Math.max(held.length, wanted.length); i++) {
          const [from, to] = [held[i], wanted[i]];
          if (from?.ip === to?.ip) continue;
          if (from) this.#hairpins.add(from.ip, -1);
          if (to) this.#hairpins.add(to.ip, 1);
        }
      }
    }
  }

  #sharedElements(draft: Draft): void {
    const kinds = [
      [this.#clusterIps, 'clusterIp'],
      [this.#pings, 'ping'],
      [this.#hairpins, 'hairpin'],
    ] as const;
    for (const [counts, kind] of kinds) {
      const { appeared, vanished } = counts.changes();
      for (const ip of vanished) draft.delete(null, sharedElement(kind, ip));
      for (const ip of appeared) draft.add(null, sharedElement(kind, ip));
    }
  }

  #hold(key: ServicePortKey, placed: Placed | null): void {
    const held = this.#placed.get(key);
    if (held && !(placed && sameFrontends(held.entry, placed.entry))) {
      for (const name of frontendNames(held.entry)) if (this.#owners.get(name) === key) this.#owners.delete(name);
    }
    if (placed === null) {
      this.#placed.delete(key);
      return;
    }
    this.#placed.set(key, placed);
    for (const name of frontendNames(placed.entry)) this.#owners.set(name, key);
  }
}

/** Elements that several entries may need. */
export function sharedElement(kind: 'clusterIp' | 'ping' | 'hairpin', ip: Ip): Element {
  const set = setsOf[familyOf(ip)][kind];
  return { set, key: kind === 'hairpin' ? [ip, ip] : [ip], value: null, comment: null };
}

/** Collects a transaction. */
class Draft {
  readonly stale: StaleAffinity[] = [];
  /** Debris that becomes a part of an entry, or goes. */
  readonly reclaimed: string[] = [];
  readonly #debris: ReadonlyMap<string, Element>;
  readonly #deletes = new Map<string, Step>();
  readonly #adds = new Map<string, Step>();
  readonly #addedChains: Chain[] = [];
  readonly #deletedChains: string[] = [];
  readonly #addedMaps: Affinity[] = [];
  readonly #deletedMaps: Affinity[] = [];

  constructor(debris: ReadonlyMap<string, Element>) {
    this.#debris = debris;
  }

  delete(key: ServicePortKey | null, element: Element): void {
    const id = elementId(element);
    // Added earlier in this transaction, by a change of the same key: it never gets there.
    if (this.#adds.delete(id)) return;
    this.#deletes.set(id, { key, element });
  }

  add(key: ServicePortKey | null, element: Element): void {
    const id = elementId(element);
    const gone = this.#deletes.get(id);
    if (gone !== undefined && elementsEqual(gone.element, element)) {
      this.#deletes.delete(id);
      return;
    }
    const found = this.#debris.get(id);
    if (found !== undefined) {
      this.reclaimed.push(id);
      if (elementsEqual(found, element)) return;
      this.#deletes.set(id, { key: null, element: found });
    }
    this.#adds.set(id, { key, element });
  }

  replace(key: ServicePortKey, before: readonly Element[], after: readonly Element[]): void {
    const held = new Map(before.map((element) => [elementId(element), element]));
    for (const element of after) {
      const id = elementId(element);
      const old = held.get(id);
      if (old !== undefined && elementsEqual(old, element)) held.delete(id);
    }
    for (const element of held.values()) this.delete(key, element);
    const kept = new Map(before.map((element) => [elementId(element), element]));
    for (const element of after) {
      const old = kept.get(elementId(element));
      if (old === undefined || !elementsEqual(old, element)) this.add(key, element);
    }
  }

  indexes(key: ServicePortKey, before: Placed, after: Placed, family: Family, list: 'cluster' | 'local'): void {
    const held = before.slots[family][list];
    const wanted = after.slots[family][list];
    for (let i = 0; i < Math.max(indexCount(held), indexCount(wanted)); i++) {
      const [from, to] = [endpointAt(held, i), endpointAt(wanted, i)];
      if (sameEndpoint(from, to)) continue;
      if (from) for (const element of indexElements(key, before.entry.spec, list, i, from)) this.delete(key, element);
      if (to) for (const element of indexElements(key, after.entry.spec, list, i, to)) this.add(key, element);
    }
  }

  chains(before: ReadonlyMap<string, Chain> = new Map(), after: ReadonlyMap<string, Chain> = new Map()): void {
    for (const chain of after.values()) if (!before.has(chain.name)) this.#addedChains.push(chain);
    for (const name of before.keys()) if (!after.has(name)) this.#deletedChains.push(name);
  }

  affinities(before: readonly Affinity[], after: readonly Affinity[]): void {
    this.#deletedMaps.push(...before.filter((a) => !after.some((b) => a.id === b.id)));
    this.#addedMaps.push(...after.filter((a) => !before.some((b) => a.id === b.id)));
  }

  /** Notes the clients of endpoints that left a list whose affinity stays. */
  forget(before: Placed, after: Placed): void {
    if (before.entry.spec.affinityTimeoutSeconds === 0) return;
    if (before.entry.spec.affinityTimeoutSeconds !== after.entry.spec.affinityTimeoutSeconds) return;
    const { proto } = portOf(after.entry.key);
    const held = affinitiesOf(before.entry.key, proto, before.entry.spec);
    const kept = affinitiesOf(after.entry.key, proto, after.entry.spec);
    for (const affinity of [held.cluster && kept.cluster, held.local && kept.local]) {
      if (affinity === null) continue;
      for (const family of families) {
        const endpoints = new Set(before.slots[family][affinity.list].map((e) => `${e.ip} ${e.port}`));
        for (const { ip, port } of after.slots[family][affinity.list]) endpoints.delete(`${ip} ${port}`);
        if (endpoints.size > 0) this.stale.push({ map: affinityMap(affinity, family), family, endpoints });
      }
    }
  }

  /** `rewritten`: chains that are given other rules, or made. */
  operations(rewritten: readonly Chain[]): Operation[] {
    const operations: Operation[] = [];
    const maps = (affinities: readonly Affinity[]) =>
      affinities.flatMap((affinity) => families.map((family) => ({ affinity, family })));
    for (const map of maps(this.#addedMaps)) operations.push({ t: 'add-map', ...map });
    for (const chain of [...rewritten, ...this.#addedChains]) operations.push({ t: 'set-chain', chain });
    for (const step of bySet(this.#deletes.values())) operations.push({ t: 'delete-element', ...step });
    for (const step of bySet(this.#adds.values())) operations.push({ t: 'add-element', ...step });
    for (const name of this.#deletedChains) operations.push({ t: 'delete-chain', name });
    for (const { affinity, family } of maps(this.#deletedMaps)) {
      operations.push({ t: 'delete-map', name: affinityMap(affinity, family) });
    }
    return operations;
  }
}

interface Step {
  readonly key: ServicePortKey | null;
  readonly element: Element;
}

/** Elements of one set travel in one message. */
const bySet = (steps: Iterable<Step>): Step[] => [...Map.groupBy(steps, ({ element }) => element.set).values()].flat();

function place(entry: Entry, before: Placed | null): Placed {
  return { entry, slots: { IPv4: familySlots(entry, before, 'IPv4'), IPv6: familySlots(entry, before, 'IPv6') } };
}

function familySlots(entry: Entry, before: Placed | null, family: Family): FamilySlots {
  const { cluster, local } = listsOf(entry, family);
  const held = before?.slots[family] ?? noFamilySlots;
  if (cluster.length + local.length === 0) return noFamilySlots;
  return { cluster: assignSlots(held.cluster, cluster), local: assignSlots(held.local, local) };
}

function* eachSlot(placed: Placed): Generator<readonly ['cluster' | 'local', Slots]> {
  for (const family of families) {
    for (const list of ['cluster', 'local'] as const) yield [list, placed.slots[family][list]];
  }
}

/** Elements of every index of every list. */
export function allIndexes(placed: Placed | null): Element[] {
  if (placed === null) return [];
  const { key, spec } = placed.entry;
  const elements: Element[] = [];
  for (const [list, slots] of eachSlot(placed)) {
    for (let i = 0; i < indexCount(slots); i++) {
      const endpoint = endpointAt(slots, i);
      if (endpoint) elements.push(...indexElements(key, spec, list, i, endpoint));
    }
  }
  return elements;
}

/** Nothing but endpoints behind unchanged indexes differs. */
const demandsAlike = (a: Placed, b: Placed): boolean =>
  specsEqual(a.entry.spec, b.entry.spec) &&
  a.entry.spec.affinityTimeoutSeconds === 0 &&
  families.every(
    (family) =>
      a.slots[family].cluster.length === b.slots[family].cluster.length &&
      a.slots[family].local.length === b.slots[family].local.length,
  );

/** The same frontends choose from the same lists, so an index means the same before and after. */
function sameFrontends(a: Entry, b: Entry): boolean {
  if (a.spec === b.spec) return true;
  const names = (entry: Entry): string =>
    [...frontendsOf(entry.spec)].map((f) => `${f.family} ${f.kind} ${f.ip} ${f.policy}`).join();
  return a.spec.nodePort === b.spec.nodePort && names(a) === names(b);
}
