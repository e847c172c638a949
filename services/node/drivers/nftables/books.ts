import { familyOf, type Ip } from '@octoplane/model/address.ts';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { Family, ServicePortKey } from '@octoplane/model/keys.ts';
import { type Endpoint, type Entry, entriesEqual, type RuleSet } from '@octoplane/model/rule-set.ts';
import type { Refusal } from '../driver.ts';
import {
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
import { affinitiesOf, demandOf, type FamilySlots, listsOf, noFamilySlots, type Placed, portOf } from './demand.ts';
import {
  allIndexes,
  type Difference,
  differenceOf,
  type StaleAffinity,
  sameFrontends,
  staleBetween,
} from './difference.ts';
import { Draft } from './draft.ts';
import { type Element, elementId } from './element.ts';
import { families, frontendNames, frontendsOf, usesCluster, usesLocal } from './frontends.ts';
import { setsOf } from './layout.ts';
import type { Operation } from './operation.ts';
import { refusalsOf } from './refusals.ts';
import { assignSlots, endpointName, type Slots } from './slots.ts';
import { visibleEntry } from './visible.ts';

/** A transaction that was worked out, and what becomes true when the kernel has taken it. */
export interface Plan {
  readonly operations: readonly Operation[];
  /** Clients that an affinity map still leads to an endpoint that is gone. */
  readonly stale: readonly StaleAffinity[];
  commit(): void;
  rollback(): void;
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

  /**
   * Takes the caller's copy of every entry that is equal to the one held: what a dump made of the kernel's answers is the rule set a
   * second time, 15 MB at 10,000 x 10.
   */
  share(wanted: RuleSet): void {
    for (const [key, { entry, slots }] of this.#placed) {
      const want = wanted.get(key);
      const visible = want === undefined ? null : visibleEntry(want);
      if (visible === null || visible === entry || !entriesEqual(visible, entry)) continue;
      this.#placed.set(key, { entry: visible, slots: sharedSlots(slots, visible.endpoints) });
    }
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
    ];
  }

  get endpointCount(): number {
    let count = 0;
    for (const { entry } of this.#placed.values()) count += entry.endpoints.length;
    return count;
  }

  clear(): void {
    this.#placed.clear();
    this.#owners.clear();
    for (const counts of [this.#clusterIps, this.#pings]) counts.clear();
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
    this.#count({ before: null, after: demandOf(placed) });
    for (const counts of this.#shared()) counts.commit();
    this.#hold(placed.entry.key, placed);
  }

  /**
   * The transaction that brings the changes about. Only one plan may be open at a time: it ends with commit or rollback.
   */
  plan(changes: readonly EntryChange[]): Plan {
    const draft = new Draft(this.#debris);
    const stale: StaleAffinity[] = [];
    const next = new Map<ServicePortKey, Placed | null>();
    const differences = new Map<ServicePortKey, Difference>();
    for (const [key, after] of new Map(changes.map((change) => [change.key, change.after]))) {
      const before = this.#placed.get(key) ?? null;
      const visible = after === null ? null : visibleEntry(after);
      const placed = visible === null ? null : place(visible, before);
      const difference = differenceOf(before, placed);
      differences.set(key, difference);
      next.set(key, placed);
      this.#count(difference.demands);
      if (before && placed) stale.push(...staleBetween(before, placed));
    }
    draft.take(differences);
    this.#sharedElements(draft);
    const grown = this.#grown(next.values());
    return {
      operations: draft.operations(grown.flatMap(({ balance, size }) => balanceChains(balance, size))),
      stale,
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
    const most = { service: { first: 0, local: 0 }, 'node-port': { first: 0, local: 0 } };
    for (const placed of entries) {
      if (placed === null) continue;
      for (const frontend of frontendsOf(placed.entry.spec)) {
        const { cluster, local } = placed.slots[frontend.family];
        const lists = most[frontend.ip === null ? 'node-port' : 'service'];
        // The local list comes first where a frontend has no other (internalTrafficPolicy Local).
        lists.first = Math.max(lists.first, (usesCluster(frontend) ? cluster : local).length);
        if (usesLocal(frontend)) lists.local = Math.max(lists.local, local.length);
      }
    }
    return balances
      .map((balance) => ({ balance, size: sizeFor(most[balance.frontend][balance.list]) }))
      .filter(({ balance, size }) => size > this.#largest(balance));
  }

  #shared(): Counts<string>[] {
    return [this.#clusterIps, this.#pings];
  }

  #count(demands: Difference['demands']): void {
    for (const [demand, sign] of [
      [demands?.before, -1],
      [demands?.after, 1],
    ] as const) {
      for (const ip of demand?.clusterIps ?? []) this.#clusterIps.add(ip, sign);
      for (const ip of demand?.pings ?? []) this.#pings.add(ip, sign);
    }
  }

  #sharedElements(draft: Draft): void {
    const kinds = [
      [this.#clusterIps, 'clusterIp'],
      [this.#pings, 'ping'],
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
export function sharedElement(kind: 'clusterIp' | 'ping', ip: Ip): Element {
  return { set: setsOf[familyOf(ip)][kind], key: [ip], value: null, comment: null };
}

function place(entry: Entry, before: Placed | null): Placed {
  return { entry, slots: { IPv4: familySlots(entry, before, 'IPv4'), IPv6: familySlots(entry, before, 'IPv6') } };
}

function familySlots(entry: Entry, before: Placed | null, family: Family): FamilySlots {
  const { cluster, local } = listsOf(entry, family);
  const held = before?.slots[family] ?? noFamilySlots;
  if (cluster.length + local.length === 0) return noFamilySlots;
  return { cluster: assignSlots(held.cluster, cluster), local: assignSlots(held.local, local) };
}

/** The same places for the same endpoints, by the objects of `endpoints`. */
function sharedSlots(slots: Placed['slots'], endpoints: readonly Endpoint[]): Placed['slots'] {
  const byId = new Map(endpoints.map((endpoint) => [endpointName(endpoint), endpoint]));
  const shared = (list: Slots): Slots => list.map((endpoint) => byId.get(endpointName(endpoint)) ?? endpoint);
  const sharedFamily = (of: FamilySlots): FamilySlots =>
    of === noFamilySlots ? of : { cluster: shared(of.cluster), local: shared(of.local) };
  return { IPv4: sharedFamily(slots.IPv4), IPv6: sharedFamily(slots.IPv6) };
}
