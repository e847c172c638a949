import type { NodeName, ServiceName } from '@octoplane/model/keys.ts';
import type {
  ClusterObject,
  EndpointSlice,
  Node,
  Service,
  ServiceExport,
  ServiceImport,
} from '@octoplane/model/objects.ts';
import type { ObjectId } from '@octoplane/model/project.ts';
import type { InputRevision } from '../compute/batch.ts';
import type { Rejection, SourceEvent } from '../sources/source.ts';

export type SourceCondition =
  | { readonly t: 'syncing' }
  | { readonly t: 'synced' }
  /** Silent or failing; its last state is kept. */
  | { readonly t: 'stale'; readonly reason: string };

/** What one source has told so far. */
export class SourceTable {
  readonly name: string;
  readonly services = new Map<ServiceName, Service>();
  readonly nodes = new Map<NodeName, Node>();
  readonly exports = new Map<ServiceName, ServiceExport>();
  readonly imports = new Map<ServiceName, ServiceImport>();
  readonly rejections = new Map<string, Rejection & { readonly sinceMs: number }>();
  readonly #slices = new Map<string, EndpointSlice>();
  readonly #slicesOf = new Map<ServiceName, Map<string, EndpointSlice>>();
  condition: SourceCondition = { t: 'syncing' };
  /** Milliseconds since 1970 at which the condition became what it is. */
  sinceMs = 0;
  /** Null before the first sync. */
  revision: InputRevision | null = null;
  /** Silent for longer than its lease: other clusters do without its endpoints. */
  lapsed = false;
  /** Objects that came with a trace context that is none. */
  badTraceparents = 0;
  #parts: Readonly<Record<string, number>> | null = null;

  constructor(name: string) {
    this.name = name;
  }

  /** What two states are compared by: revisions of parts that say nothing of each other count apart, as "NAME/PART". */
  get inputs(): readonly InputRevision[] {
    const { revision } = this;
    if (revision === null || this.#parts === null) return revision === null ? [] : [revision];
    const { incarnation } = revision;
    return Object.entries(this.#parts).map(([part, at]) => ({
      source: `${this.name}/${part}`,
      incarnation,
      revision: at,
    }));
  }

  get objects(): number {
    return this.services.size + this.nodes.size + this.#slices.size + this.exports.size + this.imports.size;
  }

  /** EndpointSlices of a Service, in the order of their names; they may come before it, and outlive it. */
  slicesOf(service: ServiceName): readonly EndpointSlice[] {
    const slices = this.#slicesOf.get(service);
    if (slices === undefined) return [];
    const list = [...slices.values()];
    return list.length === 1 ? list : list.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The Services and Nodes that the change concerns. */
  put(object: ClusterObject, touched: Touched): void {
    switch (object.kind) {
      case 'Service':
        this.services.set(object.service.name, object.service);
        touched.services.add(object.service.name);
        return;
      case 'Node':
        this.nodes.set(object.node.name, object.node);
        touched.nodes.add(object.node.name);
        return;
      case 'EndpointSlice':
        this.#replaceSlice(object.slice.name, object.slice, touched);
        return;
      case 'ServiceExport':
        this.exports.set(object.export.name, object.export);
        touched.exports.add(object.export.name);
        return;
      case 'ServiceImport':
        this.imports.set(object.import.name, object.import);
        touched.exports.add(object.import.name);
    }
  }

  remove(id: ObjectId, touched: Touched): void {
    switch (id.kind) {
      case 'Service':
        this.services.delete(id.name as ServiceName);
        touched.services.add(id.name as ServiceName);
        return;
      case 'Node':
        this.nodes.delete(id.name as NodeName);
        touched.nodes.add(id.name as NodeName);
        return;
      case 'EndpointSlice':
        this.#replaceSlice(id.name, null, touched);
        return;
      case 'ServiceExport':
        this.exports.delete(id.name as ServiceName);
        touched.exports.add(id.name as ServiceName);
        return;
      case 'ServiceImport':
        this.imports.delete(id.name as ServiceName);
        touched.exports.add(id.name as ServiceName);
    }
  }

  /** What the source says of itself and of objects that it refused. */
  note(event: Exclude<SourceEvent, { t: 'upserted' | 'removed' }>): void {
    switch (event.t) {
      case 'synced':
        this.revision = { source: this.name, incarnation: event.incarnation, revision: event.revision };
        this.#parts = event.parts ?? null;
        this.#become({ t: 'synced' }, event.observedAtUs);
        this.lapsed = false;
        return;
      case 'stale':
        this.#become({ t: 'stale', reason: event.reason }, event.observedAtUs);
        return;
      case 'lapsed': {
        this.lapsed = true;
        const reason = this.condition.t === 'stale' ? this.condition.reason : 'it has not been heard since the start';
        const words = `${reason}; longer than its lease: the other clusters do without its endpoints`;
        this.#become({ t: 'stale', reason: words }, event.observedAtUs);
        return;
      }
      case 'rejected': {
        const before = this.rejections.get(event.rejection.place);
        const sinceMs =
          before?.reason === event.rejection.reason ? before.sinceMs : Math.floor(event.observedAtUs / 1000);
        this.rejections.set(event.rejection.place, { ...event.rejection, sinceMs });
        return;
      }
      case 'cleared':
        this.rejections.delete(event.place);
    }
  }

  #become(condition: SourceCondition, nowUs: number): void {
    if (this.condition.t !== condition.t) this.sinceMs = Math.floor(nowUs / 1000);
    this.condition = condition;
  }

  /** A slice may change its Service: both are touched. */
  #replaceSlice(name: string, slice: EndpointSlice | null, touched: Touched): void {
    const before = this.#slices.get(name);
    if (before?.service) {
      const siblings = this.#slicesOf.get(before.service);
      siblings?.delete(name);
      if (siblings?.size === 0) this.#slicesOf.delete(before.service);
      touched.endpoints.add(before.service);
    }
    if (slice === null) {
      this.#slices.delete(name);
      return;
    }
    this.#slices.set(name, slice);
    if (slice.service === null) return;
    const siblings = this.#slicesOf.get(slice.service);
    if (siblings) siblings.set(name, slice);
    else this.#slicesOf.set(slice.service, new Map([[name, slice]]));
    touched.endpoints.add(slice.service);
  }
}

/** What a round of events concerns. */
export interface Touched {
  /** Services whose own object changed. */
  readonly services: Set<ServiceName>;
  /** Services whose endpoints changed. */
  readonly endpoints: Set<ServiceName>;
  readonly nodes: Set<NodeName>;
  /** Names of exports and imports that changed. */
  readonly exports: Set<ServiceName>;
}
