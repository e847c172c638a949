import type { Ip } from '@octoplane/model/address.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { compareEndpoints, type Entry } from '@octoplane/model/rule-set.ts';
import type { Commit, History } from '../history/history.ts';

export interface IndexedViews {
  /** Every entry of every class and overlay; one may come several times. */
  allEntries(): Iterable<Entry>;
}

/** Made anew when it has grown to this many times what it was: what nobody has any more is not looked for one by one. */
const growthLimit = 4;

/**
 * From an endpoint's address to the service ports that have it, in any view or in any version that the history keeps. It may name some that have
 * not any more.
 *
 * Costs nothing until somebody asks. Then it is made once, and follows the commits at the cost of the endpoints that they add.
 */
export class EndpointIndex {
  readonly #history: History;
  readonly #views: IndexedViews;
  #keys: Map<Ip, Set<ServicePortKey>> | null = null;
  #size = 0;
  #sizeWhenMade = 0;

  constructor(history: History, views: IndexedViews) {
    this.#history = history;
    this.#views = views;
  }

  keysOf(ip: Ip): ReadonlySet<ServicePortKey> {
    this.#keys ??= this.#make();
    return this.#keys.get(ip) ?? none;
  }

  committed({ batch }: Commit): void {
    if (this.#keys === null) return;
    for (const group of [batch.classes, batch.overlays])
      for (const changes of group.values()) for (const { before, after } of changes) this.#addNew(before, after);
    if (this.#size > growthLimit * this.#sizeWhenMade + 1000) this.#keys = null;
  }

  #make(): Map<Ip, Set<ServicePortKey>> {
    this.#keys = new Map();
    this.#size = 0;
    for (const entry of this.#views.allEntries()) this.#addNew(null, entry);
    for (const { batch } of this.#history.newestFirst())
      for (const group of [batch.classes, batch.overlays])
        for (const changes of group.values()) for (const { before } of changes) this.#addNew(null, before);
    this.#sizeWhenMade = this.#size;
    return this.#keys;
  }

  /** Both lists ascend, so what is new is found side by side. */
  #addNew(before: Entry | null, after: Entry | null): void {
    if (after === null || before === after || before?.endpoints === after.endpoints) return;
    let i = 0;
    for (const endpoint of after.endpoints) {
      let known = before?.endpoints[i];
      while (known && compareEndpoints(known, endpoint) < 0) known = before?.endpoints[++i];
      if (known?.ip !== endpoint.ip) this.#add(endpoint.ip, after.key);
    }
  }

  #add(ip: Ip, key: ServicePortKey): void {
    const keys = this.#keys?.get(ip);
    if (keys === undefined) this.#keys?.set(ip, new Set([key]));
    else if (keys.has(key)) return;
    else keys.add(key);
    this.#size++;
  }
}

const none: ReadonlySet<ServicePortKey> = new Set();
