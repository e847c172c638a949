import type { NodeName, ServiceName } from '@octoplane/model/keys.ts';
import type {
  EndpointSlice,
  Node,
  ObjectMeta,
  Service,
  ServiceExport,
  ServiceImport,
} from '@octoplane/model/objects.ts';
import { type Allocations, type Allocator, needsAllocation } from '../allocate/allocator.ts';
import type { Cause, InputRevision } from '../compute/batch.ts';
import type { SourceEvent } from '../sources/source.ts';
import { Admission } from './admission.ts';
import { type Claim, claimsOf } from './claims.ts';
import { Refusals, type RejectedObject } from './refusals.ts';
import { type SourceCondition, SourceTable, type Touched } from './source-table.ts';
import { takeEvent } from './take-event.ts';

export type { RejectedObject } from './refusals.ts';

export interface ClusterStateOptions {
  /** Names of all sources, in the order of precedence: where two have an object of the same name, the first one's counts. */
  readonly sources: readonly string[];
  readonly allocator: Allocator;
  /** Called whenever something was given out or taken back: to keep it on disk. */
  readonly onAllocated?: (allocations: Allocations) => void;
}

/** What a round of events changed, in the words of the merged picture. */
export interface StateChange {
  readonly services: ReadonlySet<ServiceName>;
  readonly nodes: ReadonlySet<NodeName>;
  /** Names of exports and imports that came, went or changed. */
  readonly exports: ReadonlySet<ServiceName>;
  readonly causes: readonly Cause[];
}

export interface SourceReport {
  readonly name: string;
  readonly condition: SourceCondition;
  readonly sinceMs: number;
  readonly revision: InputRevision | null;
  readonly objects: number;
  /** Objects that came with a trace context that is none. */
  readonly badTraceparents: number;
}

/** What the clusterset has to know of a cluster beside its Services. */
export type OwnObjects = Pick<SourceTable, 'lapsed' | 'revision' | 'inputs'> & {
  readonly exports: ReadonlyMap<ServiceName, ServiceExport>;
  readonly imports: ReadonlyMap<ServiceName, ServiceImport>;
};

/**
 * All sources merged into one picture.
 *
 *   1. Nothing is known before every source is in sync; then all of it at once, in an order that depends on names alone.
 *   2. Stale, never empty: a source that falls silent keeps what it told.
 *   3. A Service belongs to one source, with the EndpointSlices of that source. Where a second source has a Service or Node of
 *      the same name, that one is refused and reported.
 *   4. A Service that claims what another has is refused and reported (admission.ts); it comes back by itself when the claim is free. The
 *      older has it; of those whose age is not known, who came first, and of those that were there at the start, by name.
 *   5. Objects are immutable: who holds one may keep it.
 */
export class ClusterState {
  readonly #sources: readonly SourceTable[];
  readonly #own: OwnObjects;
  readonly #allocator: Allocator;
  readonly #onAllocated: (allocations: Allocations) => void;
  readonly #admission = new Admission();
  readonly #services = new Map<ServiceName, Service>();
  /** With everything filled in, whether admitted or not. */
  readonly #complete = new Map<ServiceName, Service>();
  /** Why a Service could not be given what it needs. */
  readonly #unserved = new Map<ServiceName, string>();
  readonly #nodes = new Map<NodeName, Node>();
  readonly #owners = new Map<ServiceName, SourceTable>();
  readonly #refusals = new Refusals();
  #leaving: ReadonlySet<NodeName> = new Set();
  /** In which round a Service whose age is not known came; see #roundOf. */
  readonly #rounds = new Map<ServiceName, number>();
  #round = 0;
  #inSync = false;

  constructor(options: ClusterStateOptions) {
    this.#sources = options.sources.map((name) => new SourceTable(name));
    this.#own = this.#sources[0] ?? new SourceTable('');
    this.#allocator = options.allocator;
    this.#onAllocated = options.onAllocated ?? (() => undefined);
  }

  /** The first source, as it is before anything is merged. */
  get own(): OwnObjects {
    return this.#own;
  }

  /** Every source has been in sync at least once. */
  get inSync(): boolean {
    return this.#inSync;
  }

  /** Admitted, with their addresses and node ports complete. */
  get services(): ReadonlyMap<ServiceName, Service> {
    return this.#services;
  }

  get nodes(): ReadonlyMap<NodeName, Node> {
    return this.#nodes;
  }

  /** Nodes that are being deleted (P48). Another set whenever it changes. */
  get leaving(): ReadonlySet<NodeName> {
    return this.#leaving;
  }

  /** In the order of their names. */
  slicesOf(service: ServiceName): readonly EndpointSlice[] {
    return this.#owners.get(service)?.slicesOf(service) ?? [];
  }

  /** Name of the source that a Service comes from. */
  sourceOf(service: ServiceName): string | null {
    return this.#owners.get(service)?.name ?? null;
  }

  /** Does no Service but `except` name what the claim is about? */
  isFree(claim: Claim, except: ServiceName): boolean {
    return this.#admission.isFree(claim, except);
  }

  inputs(): readonly InputRevision[] {
    return this.#sources.flatMap(({ inputs }) => inputs);
  }

  reports(): readonly SourceReport[] {
    return this.#sources.map(({ name, condition, sinceMs, revision, objects, badTraceparents }) => ({
      name,
      condition,
      sinceMs,
      revision,
      objects,
      badTraceparents,
    }));
  }

  rejected(): readonly RejectedObject[] {
    const bySources = this.#sources.flatMap((source) =>
      Array.from(source.rejections.values(), ({ object, location, reason, sinceMs }) => ({
        source: source.name,
        object,
        location,
        reason,
        sinceMs,
      })),
    );
    return [...bySources, ...this.#refusals.all()];
  }

  /**
   * Null while a source has yet to come in sync, and when nothing of the picture changed. What came before the last source was in
   * sync is not among the causes: then everything is new.
   */
  apply(sourceName: string, events: readonly SourceEvent[]): StateChange | null {
    const source = this.#sources.find(({ name }) => name === sourceName);
    if (!source) throw new Error(`${sourceName} is not one of the sources ${this.#sources.map(({ name }) => name)}`);
    const touched: Touched = { services: new Set(), endpoints: new Set(), nodes: new Set(), exports: new Set() };
    const causes: Cause[] = [];
    let nowUs = 0;
    for (const event of events) {
      if ('observedAtUs' in event) nowUs = event.observedAtUs;
      takeEvent(source, event, touched, causes);
    }
    if (!this.#inSync) {
      if (this.#sources.some(({ revision }) => revision === null)) return null;
      this.#inSync = true;
      for (const table of this.#sources) {
        for (const name of table.services.keys()) touched.services.add(name);
        for (const name of table.nodes.keys()) touched.nodes.add(name);
        for (const name of [...table.exports.keys(), ...table.imports.keys()]) touched.exports.add(name);
      }
      for (const name of this.#allocator.allocations.keys()) touched.services.add(name);
    }
    const nodes = this.#mergeNodes(touched.nodes, nowUs);
    const { revision } = this.#allocator;
    const services = this.#mergeServices(touched.services, nowUs);
    if (this.#allocator.revision !== revision) this.#onAllocated(this.#allocator.allocations);
    for (const name of touched.endpoints) if (this.#services.has(name)) services.add(name);
    this.#round++;
    const { exports } = touched;
    return services.size + nodes.size + exports.size === 0 ? null : { services, nodes, exports, causes };
  }

  #mergeNodes(touched: ReadonlySet<NodeName>, nowUs: number): Set<NodeName> {
    const changed = new Set<NodeName>();
    for (const name of touched) {
      const node = this.#choose(`Node ${name}`, (table) => table.nodes.get(name), nowUs)?.object;
      if (node === this.#nodes.get(name)) continue;
      if (node) this.#nodes.set(name, node);
      else this.#nodes.delete(name);
      changed.add(name);
    }
    const leaves = (name: NodeName): boolean => this.#nodes.get(name)?.leaving ?? false;
    if ([...changed].some((name) => leaves(name) !== this.#leaving.has(name))) {
      const leaving = new Set(this.#leaving);
      for (const name of changed) {
        if (leaves(name)) leaving.add(name);
        else leaving.delete(name);
      }
      this.#leaving = leaving;
    }
    return changed;
  }

  /** First everything that is named is claimed; then, in the order of their names, those are served that want something given. */
  #mergeServices(touched: ReadonlySet<ServiceName>, nowUs: number): Set<ServiceName> {
    const changed = new Set<ServiceName>(touched);
    const waiting = new Set<ServiceName>();
    let freed = false;
    for (const name of touched) {
      const service = this.#chooseService(name, nowUs);
      if (service === null || this.#complete.has(name)) freed = true;
      this.#propose(name, service);
      if (service === null || !needsAllocation(service)) this.#allocator.release(name);
      else waiting.add(name);
      for (const claim of service === null ? [] : claimsOf(service)) {
        const owner = this.#allocator.ownerOf(claim);
        if (owner !== null && owner !== name) waiting.add(owner);
      }
    }
    // Somebody may have let go of what those who got nothing are waiting for.
    if (freed) for (const name of this.#unserved.keys()) waiting.add(name);
    for (const name of [...waiting].sort()) {
      const service = this.#owners.get(name)?.services.get(name);
      if (!service) continue;
      changed.add(name);
      const completed = this.#allocator.complete(service, (claim) => this.#admission.isFree(claim, name));
      if (completed.t === 'complete') this.#propose(name, completed.service);
      else this.#propose(name, null, completed.reason);
    }
    for (const name of this.#admission.settle()) changed.add(name);
    for (const name of changed) this.#publish(name, nowUs);
    return changed;
  }

  /** The first source's, or null when none has it. */
  #chooseService(name: ServiceName, nowUs: number): Service | null {
    const owner = this.#choose(`Service ${name}`, (table) => table.services.get(name), nowUs);
    if (owner === null) {
      this.#owners.delete(name);
      this.#rounds.delete(name);
    } else this.#owners.set(name, owner.table);
    return owner?.object ?? null;
  }

  /** The first source that has it; that others have it too is reported. */
  #choose<T extends { readonly meta: ObjectMeta }>(
    what: string,
    find: (table: SourceTable) => T | undefined,
    nowUs: number,
  ): { readonly table: SourceTable; readonly object: T } | null {
    let chosen: { readonly table: SourceTable; readonly object: T } | null = null;
    for (const table of this.#sources) {
      const object = find(table);
      const place = `${what} of ${table.name}`;
      if (object === undefined || chosen === null) this.#refusals.clear(place);
      else
        this.#refusals.set(place, nowUs, {
          source: table.name,
          object: what,
          location: object.meta.revision,
          reason: `source ${chosen.table.name} has it too and comes first; rename one of them`,
        });
      if (object !== undefined) chosen ??= { table, object };
    }
    return chosen;
  }

  /** Enters a Service into the contest for addresses and ports; `refusal`: it cannot take part. */
  #propose(name: ServiceName, service: Service | null, refusal: string | null = null): void {
    const owner = this.#owners.get(name);
    if (service === null || !owner) {
      this.#complete.delete(name);
      this.#admission.replace(name, null);
    } else {
      const rank = {
        createdAtMs: service.meta.createdAtMs ?? Infinity,
        round: this.#roundOf(name, service),
        source: this.#sources.indexOf(owner),
      };
      this.#complete.set(name, service);
      this.#admission.replace(name, { rank, claims: claimsOf(service) });
    }
    if (refusal === null) this.#unserved.delete(name);
    else this.#unserved.set(name, refusal);
  }

  /**
   * A Service without a creation time, as manifests in a directory are, goes by when it came: what is programmed is not taken away by a
   * file that is added later. One that asks for what another has by then came at that moment, as far as the contest goes.
   */
  #roundOf(name: ServiceName, service: Service): number {
    if (service.meta.createdAtMs !== null) return 0;
    const before = this.#complete.get(name);
    const known = before === undefined ? [] : claimsOf(before);
    const asksForMore = claimsOf(service).some((claim) => {
      const holder = this.#admission.holderOf(claim);
      return holder !== null && holder !== name && !known.includes(claim);
    });
    const round = this.#rounds.get(name);
    if (round !== undefined && !asksForMore) return round;
    this.#rounds.set(name, this.#round);
    return this.#round;
  }

  /** Brings the merged picture in line with the verdict. */
  #publish(name: ServiceName, nowUs: number): void {
    const verdict = this.#admission.verdict(name);
    const service = this.#complete.get(name);
    if (service && verdict?.t === 'admitted') this.#services.set(name, service);
    else this.#services.delete(name);
    const reason =
      verdict?.t === 'refused'
        ? `${verdict.claim} belongs to Service ${verdict.holder}; give one of them another`
        : this.#unserved.get(name);
    const place = `Service ${name}`;
    const owner = this.#owners.get(name);
    if (reason === undefined || !owner) this.#refusals.clear(place);
    else
      this.#refusals.set(place, nowUs, {
        source: owner.name,
        object: place,
        location: owner.services.get(name)?.meta.revision ?? '',
        reason,
      });
  }
}
