import type { EntryChange } from '@octoplane/model/delta.ts';
import { type Digest, type DigestSums, entryDifference, wrap } from '@octoplane/model/digest.ts';
import type { NodeName, ServiceName, ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, entriesEqual, type RuleSet } from '@octoplane/model/rule-set.ts';
import type { SourceEvent } from '../sources/source.ts';
import type { ClusterState, StateChange } from '../state/cluster-state.ts';
import type { Batch, ClassId, InputRevision, Views } from './batch.ts';
import { BatchBuilder } from './batch-builder.ts';
import { ClassView, classIdOf, zoneOfClass } from './class-view.ts';
import { NodeIndex } from './node-index.ts';
import { NodeView } from './node-view.ts';
import { type LocalCandidates, localCandidates, overlayEntry } from './overlay.ts';
import { dependsOnZone, type PreparedPort, prepare } from './prepare.ts';
import { anywhereIn, onNode, resolvePort, sharing } from './resolve.ts';
import { Rounds } from './rounds.ts';
import { noRecord, recordOf, type ServiceRecord } from './service-record.ts';

/**
 * From the cluster state to the view of every node.
 *
 *   1. The result is a function of the state and of the nodes' zones. `recompute` proves it in tests: it starts from nothing, and its
 *      digests must agree with the incremental ones. `audit` proves it all the time, Service by Service.
 *   2. Cost follows the change: each changed Service is resolved once per class, or once in all where zones make no difference,
 *      and once per node that hosts its endpoints or is named by their hints, where that can matter. Nothing is ever done per (node, Service).
 *   3. Entries are shared between classes and views that agree.
 *
 * A class stays once a node has been in it: there are few zones, and history can speak of it later.
 */
export class Compute implements Views {
  readonly #state: ClusterState;
  readonly #cluster: string | null;
  readonly #records = new Map<ServiceName, ServiceRecord>();
  readonly #classes = new Map<ClassId, ClassView>();
  readonly #nodes = new Map<NodeName, NodeView>();
  /** Zones that daemons gave in their Hello. */
  readonly #registered = new Map<NodeName, string | null>();
  readonly #index = new NodeIndex();
  readonly #rounds = new Rounds(() => new Set([...this.#state.services.keys(), ...this.#records.keys()]));
  #inSync = false;

  /** `cluster` null: there is only one, and its classes are named by their zones alone. */
  constructor(state: ClusterState, cluster: string | null = null) {
    this.#state = state;
    this.#cluster = cluster;
  }

  /** Before this, views are empty and nothing may be served. */
  get inSync(): boolean {
    return this.#inSync;
  }

  inputs(): readonly InputRevision[] {
    return this.#state.inputs();
  }

  /** Takes a round of events of one source. Null when no node's view changes; the batch that brings all sources in sync is never null. */
  apply(source: string, events: readonly SourceEvent[]): Batch | null {
    return this.update(this.#state.apply(source, events));
  }

  /** What `apply` does once the state has taken the events. */
  update(change: StateChange | null): Batch | null {
    if (!this.#state.inSync) return null;
    const first = !this.#inSync;
    this.#inSync = true;
    if (change === null && !first) return null;
    const batch = new BatchBuilder();
    const services = change?.services ?? new Set();
    const fresh = this.#placeNodes(first ? this.#registered.keys() : [], change?.nodes ?? [], services, batch);
    for (const name of services) this.#computeService(name, fresh, batch);
    for (const node of fresh) this.#computeNode(node, services);
    if (batch.empty && !first) return null;
    return batch.build(change?.causes ?? [], this.#state.inputs());
  }

  /**
   * Computes the next few Services anew, in rounds over all of them. Null when every view is as it should be. Otherwise a mistake
   * was made before, and the batch puts it right.
   */
  audit(count: number): Batch | null {
    if (!this.#inSync) return null;
    const batch = new BatchBuilder();
    for (const name of this.#rounds.next(count)) this.#computeService(name, new Set(), batch);
    return batch.empty ? null : batch.build([], this.#state.inputs());
  }

  /**
   * A daemon has said Hello; `zone` counts where its Node object has none.
   * 'new' and 'moved': whatever version the node names, it was computed for another view, and must not be resumed from.
   */
  registerNode(node: NodeName, zone: string | null): 'known' | 'new' | 'moved' {
    const known = this.#registered.has(node);
    const before = this.#nodes.get(node);
    this.#registered.set(node, zone === '' ? null : zone);
    this.#settleNode(node);
    if (!known || !before) return 'new';
    return before === this.#nodes.get(node) ? 'known' : 'moved';
  }

  /** The daemon will not be back, as far as its streams tell. Its view stays while there is a Node object. */
  forgetNode(node: NodeName): void {
    this.#registered.delete(node);
    this.#settleNode(node);
  }

  classOf(node: NodeName): ClassId {
    return classIdOf(this.#cluster, this.#state.nodes.get(node)?.zone ?? this.#registered.get(node) ?? null);
  }

  classRuleSet(id: ClassId): RuleSet {
    return this.#class(id).entries;
  }

  classSums(id: ClassId): DigestSums {
    return this.#class(id).sums;
  }

  overlay(node: NodeName): ReadonlyMap<ServicePortKey, Entry | null> {
    return this.#nodes.get(node)?.entries ?? noEntries;
  }

  viewDigest(node: NodeName): Digest {
    const view = this.#nodes.get(node);
    const { total } = this.#class(view?.classId ?? this.classOf(node)).sums;
    return view ? wrap(total + view.difference) : total;
  }

  /** The whole view of one node, for explanations and tests. */
  ruleSet(node: NodeName): RuleSet {
    const ruleSet = new Map(this.classRuleSet(this.classOf(node)));
    for (const [key, entry] of this.overlay(node)) {
      if (entry === null) ruleSet.delete(key);
      else ruleSet.set(key, entry);
    }
    return ruleSet;
  }

  /** Every entry of every view; those that views share may come several times. */
  *allEntries(): Generator<Entry> {
    for (const { entries } of this.#classes.values()) yield* entries.values();
    for (const { entries } of this.#nodes.values())
      for (const entry of entries.values()) if (entry !== null) yield entry;
  }

  /** The same state, computed from nothing. */
  recompute(): Compute {
    const full = new Compute(this.#state, this.#cluster);
    for (const [node, zone] of this.#registered) full.registerNode(node, zone);
    full.#inSync = this.#inSync;
    if (!this.#inSync) return full;
    const services = new Set(this.#state.services.keys());
    const batch = new BatchBuilder();
    const fresh = full.#placeNodes(this.#registered.keys(), this.#state.nodes.keys(), services, batch);
    for (const id of this.#classes.keys()) full.#ensureClass(id, services);
    for (const name of services) full.#computeService(name, fresh, batch);
    return full;
  }

  /** Classes and nodes whose digests disagree with a full recompute; empty when all is well. */
  disagreements(full: Compute): readonly string[] {
    const classes = Array.from(this.#classes).flatMap(([id, { sums }]) =>
      sums.total === full.classSums(id).total ? [] : [`class ${id}`],
    );
    const nodes = Array.from(this.#nodes.keys()).flatMap((node) =>
      this.viewDigest(node) === full.viewDigest(node) ? [] : [`node ${node}`],
    );
    return [...classes, ...nodes];
  }

  /** Gives nodes their class. The answer: those whose view begins anew. */
  #placeNodes(
    registered: Iterable<NodeName>,
    changed: Iterable<NodeName>,
    dirty: ReadonlySet<ServiceName>,
    batch: BatchBuilder,
  ): ReadonlySet<NodeName> {
    const fresh = new Set<NodeName>();
    for (const node of new Set([...registered, ...changed])) {
      const before = this.#nodes.get(node);
      if (!this.#state.nodes.has(node) && !this.#registered.has(node)) {
        this.#nodes.delete(node);
        continue;
      }
      const id = this.classOf(node);
      if (before?.classId === id) continue;
      // Registered and without a view: it said Hello before anything was in sync, when its class was anybody's guess.
      if (before || this.#registered.has(node)) batch.move(node);
      this.#place(node, id, dirty);
      fresh.add(node);
    }
    return fresh;
  }

  /** Between rounds. */
  #settleNode(node: NodeName): void {
    if (!this.#inSync) return;
    const nothing = new Set<never>();
    for (const fresh of this.#placeNodes([], [node], nothing, new BatchBuilder())) this.#computeNode(fresh, nothing);
  }

  #place(node: NodeName, id: ClassId, dirty: ReadonlySet<ServiceName>): void {
    this.#ensureClass(id, dirty);
    this.#nodes.set(node, new NodeView(id));
  }

  #class(id: ClassId): ClassView {
    return this.#ensureClass(id, new Set());
  }

  /** A class that did not exist has everything but the `dirty` Services, which are about to be computed. */
  #ensureClass(id: ClassId, dirty: ReadonlySet<ServiceName>): ClassView {
    const existing = this.#classes.get(id);
    if (existing) return existing;
    const [sibling] = this.#classes.values();
    const view = new ClassView();
    this.#classes.set(id, view);
    for (const [name, record] of this.#records) {
      if (dirty.has(name)) continue;
      if (sibling && !record.zonal) for (const key of record.keys) view.replace(key, sibling.entries.get(key) ?? null);
      else
        for (const port of this.#prepare(name))
          view.replace(port.key, resolvePort(port, anywhereIn(zoneOfClass(this.#cluster, id))));
    }
    return view;
  }

  #prepare(name: ServiceName): readonly PreparedPort[] {
    const service = this.#state.services.get(name);
    return service ? prepare(service, this.#state.slicesOf(name)) : [];
  }

  #computeService(name: ServiceName, fresh: ReadonlySet<NodeName>, batch: BatchBuilder): void {
    const before = this.#records.get(name) ?? noRecord;
    const ports = new Map(this.#prepare(name).map((port) => [port.key, port]));
    const after = recordOf(ports);
    if (after === null) this.#records.delete(name);
    else this.#records.set(name, after);
    this.#index.replace(name, before.nodes, after?.nodes ?? noRecord.nodes);
    const nodes = before.nodes.union(after?.nodes ?? noRecord.nodes);
    for (const key of new Set([...before.keys, ...ports.keys()])) {
      const port = ports.get(key) ?? null;
      const changes = this.#computeClasses(key, port);
      for (const [id, change] of changes) batch.changeClass(id, change);
      if (nodes.size === 0) continue;
      const locals = port === null ? noLocals : localCandidates(port);
      for (const node of nodes) this.#computeOverlay(node, key, port, locals, changes, fresh.has(node) ? null : batch);
    }
  }

  /** Changes by class; a class is absent when nothing changed in it. */
  #computeClasses(key: ServicePortKey, port: PreparedPort | null): ReadonlyMap<ClassId, EntryChange> {
    const changes = new Map<ClassId, EntryChange>();
    const zonal = port !== null && dependsOnZone(port);
    let shared: Entry | null = null;
    for (const [id, view] of this.#classes) {
      const before = view.entries.get(key) ?? null;
      let after: Entry | null = null;
      if (port !== null) {
        after =
          (zonal ? null : shared) ?? sharing(before, resolvePort(port, anywhereIn(zoneOfClass(this.#cluster, id))));
        shared = after;
      }
      if (before === after) continue;
      view.replace(key, after);
      if (!entriesEqual(before, after)) changes.set(id, { key, before, after });
    }
    return changes;
  }

  #computeOverlay(
    node: NodeName,
    key: ServicePortKey,
    port: PreparedPort | null,
    locals: LocalCandidates,
    changes: ReadonlyMap<ClassId, EntryChange>,
    batch: BatchBuilder | null,
  ): void {
    const view = this.#nodes.get(node);
    if (!view) return;
    const classChange = changes.get(view.classId);
    const classAfter = this.#class(view.classId).entries.get(key) ?? null;
    const held = view.entries.get(key);
    const before = held === undefined ? (classChange ? classChange.before : classAfter) : held;
    const vantage = onNode(node, zoneOfClass(this.#cluster, view.classId));
    // A class has every entry that one of its nodes has: whether there is one depends on frontends alone.
    const after = port === null || classAfter === null ? null : overlayEntry(port, classAfter, locals, vantage);
    if (after === classAfter) view.drop(key);
    else view.hold(key, after, entryDifference(classAfter, after));
    const overlaid = held !== undefined || after !== classAfter;
    if (overlaid && (classChange || !entriesEqual(before, after))) batch?.changeOverlay(node, { key, before, after });
  }

  /** Fills in a view that began anew with the Services that were not computed in this round. */
  #computeNode(node: NodeName, computed: ReadonlySet<ServiceName>): void {
    for (const name of this.#index.servicesOf(node)) {
      if (computed.has(name)) continue;
      for (const port of this.#prepare(name))
        this.#computeOverlay(node, port.key, port, localCandidates(port), noChanges, null);
    }
  }
}

const noEntries: ReadonlyMap<ServicePortKey, Entry | null> = new Map();
const noLocals: LocalCandidates = new Map();
const noChanges: ReadonlyMap<ClassId, EntryChange> = new Map();
