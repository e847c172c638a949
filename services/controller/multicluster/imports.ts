import type { Ip } from '@octoplane/model/address.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import type { SourceEvent } from '../sources/source.ts';
import type { ClusterState } from '../state/cluster-state.ts';
import { Refusals, type RejectedObject } from '../state/refusals.ts';
import type { ClustersetAddresses, Placed } from './clusterset-addresses.ts';
import { type Derived, deriveImport, type Exported } from './derive-import.ts';
import { importedName, importedService, importedSlices } from './imported-objects.ts';

/** In every cluster's state, the source of what others export. */
export const clustersetSource = 'clusterset';

export interface Member {
  readonly name: string;
  readonly state: ClusterState;
}

/** What the clusterset makes of one exported name. */
export interface ImportState {
  readonly derived: Derived;
  /** Null for headless ones, and where nothing is exported. */
  readonly placed: Placed | null;
}

/**
 * From the exports of all clusters to what each of them has to serve. An import is told to every cluster's state as a Service with slices, from a
 * source of its own beside the cluster's; so it takes part in the contest for addresses there, and nothing after it knows of clustersets.
 */
export class Imports {
  readonly #members: readonly Member[];
  readonly #addresses: ClustersetAddresses;
  readonly #states = new Map<ServiceName, ImportState>();
  /** Names of the slices that every member was told of an import. */
  readonly #told = new Map<ServiceName, ReadonlySet<string>>();
  readonly #refusals = new Refusals();

  constructor(members: readonly Member[], addresses: ClustersetAddresses) {
    this.#members = members;
    this.#addresses = addresses;
  }

  /** Names that somebody exports. */
  get states(): ReadonlyMap<ServiceName, ImportState> {
    return this.#states;
  }

  rejected(): Iterable<RejectedObject> {
    return this.#refusals.all();
  }

  /** Every name that is exported, or was. */
  names(): ReadonlySet<ServiceName> {
    const names = new Set(this.#states.keys());
    for (const { state } of this.#members) {
      for (const name of state.own.exports.keys()) names.add(name);
      for (const name of state.own.imports.keys()) names.add(name);
    }
    return names;
  }

  isExported(name: ServiceName): boolean {
    return this.#members.some(({ state }) => state.own.exports.has(name));
  }

  /** Works these names out anew. The answer: what each cluster is to be told. */
  refresh(names: Iterable<ServiceName>, nowUs: number): ReadonlyMap<string, readonly SourceEvent[]> {
    const events = new Map<string, SourceEvent[]>(this.#members.map(({ name }) => [name, []]));
    const dirty = new Set(names);
    for (const name of dirty) {
      const records = this.#members.flatMap(({ state }, order) => {
        const record = state.own.imports.get(name);
        return record ? [{ import: record, order }] : [];
      });
      for (const other of this.#addresses.note(name, records)) dirty.add(other);
    }
    // In the order of their names, so that replicas that start from the same objects give out the same addresses.
    for (const name of [...dirty].sort()) this.#refreshOne(name, nowUs, events);
    return events;
  }

  #refreshOne(name: ServiceName, nowUs: number, events: ReadonlyMap<string, SourceEvent[]>): void {
    const derived = deriveImport(name, this.#exportsOf(name));
    const { import: derivedImport } = derived;
    const serves = derivedImport?.type === 'ClusterSetIP';
    const placed = serves ? this.#addresses.place(derivedImport) : null;
    if (!serves) this.#addresses.release(name);
    if (this.isExported(name)) this.#states.set(name, { derived, placed });
    else this.#states.delete(name);
    this.#report(name, derived, placed, nowUs);
    const ips: readonly Ip[] | null = placed?.t === 'given' ? placed.ips : null;
    const before = this.#told.get(name);
    if (derivedImport === null || ips === null) {
      this.#told.delete(name);
      if (before)
        for (const list of events.values()) list.push(...removals(importedName(name), before, new Set(), nowUs));
      return;
    }
    for (const [cluster, list] of events) {
      const slices = importedSlices(derivedImport, cluster);
      const now = new Set(slices.map((slice) => slice.name));
      const service = importedService(derivedImport, ips, cluster);
      list.push({ t: 'upserted', object: { kind: 'Service', service }, observedAtUs: nowUs });
      for (const slice of slices)
        list.push({ t: 'upserted', object: { kind: 'EndpointSlice', slice }, observedAtUs: nowUs });
      if (before) list.push(...removals(null, before, now, nowUs));
      this.#told.set(name, now);
    }
  }

  #exportsOf(name: ServiceName): readonly Exported[] {
    return this.#members.flatMap(({ name: cluster, state }) => {
      const found = state.own.exports.get(name);
      if (found === undefined) return [];
      const service = state.services.get(name) ?? null;
      return [{ cluster, export: found, service, slices: state.slicesOf(name), lapsed: state.own.lapsed }];
    });
  }

  #report(name: ServiceName, { conditions }: Derived, placed: Placed | null, nowUs: number): void {
    for (const { name: cluster, state } of this.#members) {
      const place = `${cluster} ${name}`;
      const found = state.own.exports.get(name);
      const invalid = conditions.get(cluster)?.find(({ type, status }) => type === 'Valid' && status === 'False');
      const reason = invalid?.message ?? (placed === null || placed.t === 'given' ? null : placed.reason);
      if (found === undefined || reason === null) this.#refusals.clear(place);
      else {
        const object = `ServiceExport ${name}`;
        this.#refusals.set(place, nowUs, { source: cluster, object, location: found.meta.revision, reason });
      }
    }
  }
}

/** `service` null: it stays. */
function removals(
  service: ServiceName | null,
  before: ReadonlySet<string>,
  after: ReadonlySet<string>,
  observedAtUs: number,
): readonly SourceEvent[] {
  const removed = (kind: 'Service' | 'EndpointSlice', name: string): SourceEvent => ({
    t: 'removed',
    id: { kind, name },
    revision: '',
    changedAtUs: null,
    observedAtUs,
  });
  const slices = [...before].filter((name) => !after.has(name)).map((name) => removed('EndpointSlice', name));
  return service === null ? slices : [removed('Service', service), ...slices];
}
