import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Affinity, affinityMap, type Chain } from './chains.ts';
import type { Difference } from './difference.ts';
import { type Element, elementId, elementsEqual } from './element.ts';
import { families } from './frontends.ts';
import type { Operation } from './operation.ts';

type Deletion = Extract<Operation, { readonly t: 'delete-element' }>;
type Addition = Extract<Operation, { readonly t: 'add-element' }>;

/**
 * Collects the differences of several entries into one transaction. All that goes is known before anything is added, because what one
 * entry gives up another may take in the same transaction.
 */
export class Draft {
  /** Debris that becomes a part of an entry, or goes. */
  readonly reclaimed: string[] = [];
  readonly #debris: ReadonlyMap<string, Element>;
  readonly #deletes = new Map<string, Deletion>();
  readonly #adds: Addition[] = [];
  readonly #differences: Difference[] = [];

  constructor(debris: ReadonlyMap<string, Element>) {
    this.#debris = debris;
  }

  /** Of different entries each. */
  take(differences: ReadonlyMap<ServicePortKey, Difference>): void {
    for (const [key, difference] of differences) {
      this.#differences.push(difference);
      for (const element of difference.deletes) this.delete(key, element);
    }
    for (const [key, difference] of differences) for (const element of difference.adds) this.add(key, element);
  }

  delete(key: ServicePortKey | null, element: Element): void {
    this.#deletes.set(elementId(element), { t: 'delete-element', key, element });
  }

  add(key: ServicePortKey | null, element: Element): void {
    if ((this.#deletes.size > 0 || this.#debris.size > 0) && this.#isThere(element)) return;
    this.#adds.push({ t: 'add-element', key, element });
  }

  /** `rewritten`: chains that are given other rules, or made. */
  operations(rewritten: readonly Chain[]): Operation[] {
    const operations: Operation[] = [];
    const all = this.#differences;
    const maps = (affinities: readonly Affinity[]) =>
      affinities.flatMap((affinity) => families.map((family) => ({ affinity, family })));
    for (const map of maps(all.flatMap((d) => d.addedAffinities))) operations.push({ t: 'add-map', ...map });
    for (const chain of rewritten) operations.push({ t: 'set-chain', chain });
    for (const chain of all.flatMap((d) => d.addedChains)) operations.push({ t: 'set-chain', chain });
    for (const deletion of bySet(this.#deletes.values())) operations.push(deletion);
    for (const addition of bySet(this.#adds)) operations.push(addition);
    for (const name of all.flatMap((d) => d.deletedChains)) operations.push({ t: 'delete-chain', name });
    for (const { affinity, family } of maps(all.flatMap((d) => d.deletedAffinities))) {
      operations.push({ t: 'delete-map', name: affinityMap(affinity, family) });
    }
    return operations;
  }

  /** Already in the kernel as it should be; if it is there in another form, that goes first. */
  #isThere(element: Element): boolean {
    const id = elementId(element);
    const going = this.#deletes.get(id);
    if (going !== undefined) {
      if (!elementsEqual(going.element, element)) return false;
      this.#deletes.delete(id);
      return true;
    }
    const found = this.#debris.get(id);
    if (found === undefined) return false;
    this.reclaimed.push(id);
    if (elementsEqual(found, element)) return true;
    this.#deletes.set(id, { t: 'delete-element', key: null, element: found });
    return false;
  }
}

/** Elements of one set travel in one message. */
function* bySet<T extends Deletion | Addition>(steps: Iterable<T>): Generator<T> {
  for (const group of Map.groupBy(steps, ({ element }) => element.set).values()) yield* group;
}
