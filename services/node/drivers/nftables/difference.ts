import type { Family } from '@octoplane/model/keys.ts';
import { type Entry, specsEqual } from '@octoplane/model/rule-set.ts';
import { type Affinity, affinityMap, type Chain, sizeFor } from './chains.ts';
import {
  affinitiesOf,
  type Demand,
  demandOf,
  endpointAt,
  indexCount,
  indexElement,
  indexPlaces,
  type Placed,
  portOf,
} from './demand.ts';
import { type Element, elementId, elementsEqual } from './element.ts';
import { families, frontendsOf } from './frontends.ts';
import { type Slots, sameEndpoint } from './slots.ts';

/** What takes an entry's own part of the table from one state to another. */
export interface Difference {
  readonly deletes: Element[];
  readonly adds: Element[];
  readonly addedChains: Chain[];
  readonly deletedChains: string[];
  readonly addedAffinities: Affinity[];
  readonly deletedAffinities: Affinity[];
  /** Null where nothing but endpoints behind indexes differs. */
  readonly demands: { readonly before: Demand | null; readonly after: Demand | null } | null;
}

/** Clients that an affinity map still leads to an endpoint that is gone. */
export interface StaleAffinity {
  readonly map: string;
  readonly family: Family;
  /** "ip port" */
  readonly endpoints: ReadonlySet<string>;
}

export function differenceOf(before: Placed | null, after: Placed | null): Difference {
  const difference: Difference = {
    deletes: [],
    adds: [],
    addedChains: [],
    deletedChains: [],
    addedAffinities: [],
    deletedAffinities: [],
    demands: demandsAlike(before, after)
      ? null
      : { before: before && demandOf(before), after: after && demandOf(after) },
  };
  if (difference.demands) replaceDemand(difference, difference.demands.before, difference.demands.after);
  if (before && after && sameFrontends(before.entry, after.entry)) replaceIndexes(difference, before, after);
  else replaceElements(difference, allIndexes(before), allIndexes(after));
  return difference;
}

/** Affinities that stay although endpoints left their list. */
export function staleBetween(before: Placed, after: Placed): StaleAffinity[] {
  const timeout = before.entry.spec.affinityTimeoutSeconds;
  if (timeout === 0 || timeout !== after.entry.spec.affinityTimeoutSeconds) return [];
  const { proto } = portOf(after.entry.key);
  const held = affinitiesOf(before.entry.key, proto, before.entry.spec);
  const kept = affinitiesOf(after.entry.key, proto, after.entry.spec);
  const stale: StaleAffinity[] = [];
  for (const affinity of [held.cluster && kept.cluster, held.local && kept.local]) {
    if (affinity === null) continue;
    for (const family of families) {
      const endpoints = new Set(before.slots[family][affinity.list].map(({ ip, port }) => `${ip} ${port}`));
      for (const { ip, port } of after.slots[family][affinity.list]) endpoints.delete(`${ip} ${port}`);
      if (endpoints.size > 0) stale.push({ map: affinityMap(affinity, family), family, endpoints });
    }
  }
  return stale;
}

/** Elements of every index of every list. */
export function allIndexes(placed: Placed | null): Element[] {
  if (placed === null) return [];
  const { key, spec } = placed.entry;
  const elements: Element[] = [];
  for (const family of families) {
    for (const list of ['cluster', 'local'] as const) {
      const slots = placed.slots[family][list];
      if (slots.length === 0) continue;
      for (const place of indexPlaces(key, spec, family, list)) {
        for (let i = 0; i < indexCount(slots); i++) {
          const endpoint = endpointAt(slots, i);
          if (endpoint) elements.push(indexElement(place, i, endpoint));
        }
      }
    }
  }
  return elements;
}

/** The same frontends choose from the same lists, so an index means the same before and after. */
export function sameFrontends(a: Entry, b: Entry): boolean {
  if (a.spec === b.spec) return true;
  const names = (entry: Entry): string =>
    [...frontendsOf(entry.spec)].map((f) => `${f.family} ${f.kind} ${f.ip} ${f.policy}`).join();
  return a.spec.nodePort === b.spec.nodePort && names(a) === names(b);
}

const demandsAlike = (a: Placed | null, b: Placed | null): boolean =>
  a !== null &&
  b !== null &&
  specsEqual(a.entry.spec, b.entry.spec) &&
  a.entry.spec.affinityTimeoutSeconds === 0 &&
  families.every((family) => {
    const [held, wanted] = [a.slots[family], b.slots[family]];
    return sameDemand(held.cluster, wanted.cluster) && sameDemand(held.local, wanted.local);
  });

/** Sizes double, and the demand says only which were passed. */
const sameDemand = (a: Slots, b: Slots): boolean =>
  a.length === b.length || (a.length > 0 && b.length > 0 && sizeFor(a.length) === sizeFor(b.length));

function replaceDemand(difference: Difference, before: Demand | null, after: Demand | null): void {
  replaceElements(difference, before?.elements ?? [], after?.elements ?? []);
  for (const chain of after?.chains.values() ?? []) {
    if (!before?.chains.has(chain.name)) difference.addedChains.push(chain);
  }
  for (const name of before?.chains.keys() ?? []) if (!after?.chains.has(name)) difference.deletedChains.push(name);
  const lacks = (affinities: readonly Affinity[] = [], { id }: Affinity): boolean =>
    affinities.every((a) => a.id !== id);
  difference.addedAffinities.push(...(after?.affinities.filter((a) => lacks(before?.affinities, a)) ?? []));
  difference.deletedAffinities.push(...(before?.affinities.filter((a) => lacks(after?.affinities, a)) ?? []));
}

function replaceElements(difference: Difference, before: readonly Element[], after: readonly Element[]): void {
  if (before.length === 0 || after.length === 0) {
    difference.deletes.push(...before);
    difference.adds.push(...after);
    return;
  }
  const held = new Map(before.map((element) => [elementId(element), element]));
  for (const element of after) {
    const id = elementId(element);
    const old = held.get(id);
    if (old !== undefined && elementsEqual(old, element)) held.delete(id);
    else difference.adds.push(element);
  }
  difference.deletes.push(...held.values());
}

function replaceIndexes(difference: Difference, before: Placed, after: Placed): void {
  const { key, spec } = after.entry;
  for (const family of families) {
    for (const list of ['cluster', 'local'] as const) {
      const held = before.slots[family][list];
      const wanted = after.slots[family][list];
      if (held === wanted) continue;
      const places = indexPlaces(key, spec, family, list);
      for (let i = 0; i < Math.max(indexCount(held), indexCount(wanted)); i++) {
        const [from, to] = [endpointAt(held, i), endpointAt(wanted, i)];
        if (sameEndpoint(from, to)) continue;
        for (const place of places) {
          if (from) difference.deletes.push(indexElement(place, i, from));
          if (to) difference.adds.push(indexElement(place, i, to));
        }
      }
    }
  }
}
