import type { Digest, DigestSums } from '@octoplane/model/digest.ts';
import type { NodeName, ServiceName, ServicePortKey } from '@octoplane/model/keys.ts';
import type { EndpointSlice, Node, Service } from '@octoplane/model/objects.ts';
import type { Entry, RuleSet } from '@octoplane/model/rule-set.ts';
import type { Batch, ClassId, InputRevision, OverlayChange, Views } from '../compute/batch.ts';
import { clusterOfClass, zoneOfClass } from '../compute/class-view.ts';
import { Compute } from '../compute/compute.ts';
import type { SourceEvent } from '../sources/source.ts';
import type { ClusterState, OwnObjects, SourceReport, StateChange } from '../state/cluster-state.ts';
import { Refusals, type RejectedObject } from '../state/refusals.ts';
import type { ClustersetAddresses } from './clusterset-addresses.ts';
import { Homes } from './homes.ts';
import { clustersetSource, Imports } from './imports.ts';

export interface ClusterSetOptions {
  /** In the order of precedence. With more than one, the state of each has the source `clusterset` behind its own. */
  readonly clusters: readonly { readonly name: string; readonly state: ClusterState }[];
  /** Null: there is only one cluster, which imports nothing. */
  readonly addresses: ClustersetAddresses | null;
  /** What becomes of these exported names has changed. */
  readonly onImports?: (names: ReadonlySet<ServiceName>) => void;
}

interface Cluster {
  readonly name: string;
  readonly state: ClusterState;
  readonly compute: Compute;
}

/**
 * All clusters of a controller, each with its own state and computation, and between them what they export to each other.
 *
 *   1. A node belongs to one cluster: the first that has a Node object of its name, otherwise the one that its daemon names, otherwise the
 *      first. It is served that cluster's Services and all imports. Names of nodes are unique in a clusterset; the second is reported.
 *   2. What one cluster has, another does not see, unless it is exported: Services of the same name, and the same addresses, do
 *      not meet.
 *   3. Nothing before everything: no node is answered before every cluster was in sync once, or has been silent for longer than its lease;
 *      and a node never before its own cluster was.
 *   4. A cluster that falls silent keeps its nodes' rule sets as they are. For others, its endpoints leave with its lease.
 */
export class ClusterSet implements Views {
  readonly #clusters: readonly [Cluster, ...Cluster[]];
  readonly #imports: Imports | null;
  readonly #homes: Homes;
  readonly #onImports: (names: ReadonlySet<ServiceName>) => void;
  readonly #refusals = new Refusals();
  #settled = false;
  #leaving: { readonly parts: readonly ReadonlySet<NodeName>[]; readonly all: ReadonlySet<NodeName> } = {
    parts: [],
    all: new Set(),
  };

  constructor({ clusters, addresses, onImports = () => undefined }: ClusterSetOptions) {
    const [first, ...others] = clusters.map(({ name, state }) => ({
      name,
      state,
      compute: new Compute(state, clusters.length > 1 ? name : null),
    }));
    if (!first) throw new TypeError('a clusterset has a cluster at least');
    this.#clusters = [first, ...others];
    this.#imports = addresses && new Imports(clusters, addresses);
    this.#homes = new Homes(this.#clusters);
    this.#onImports = onImports;
  }

  get inSync(): boolean {
    return this.#settled;
  }

  /** What is exported and imported; null with a single cluster. */
  get imports(): Imports | null {
    return this.#imports;
  }

  /** For listings: each cluster's Services, imports among them. */
  get clusters(): readonly ClusterState[] {
    return this.#clusters.map(({ state }) => state);
  }

  /** Services of all clusters, imports included. */
  get size(): number {
    return this.#clusters.reduce((sum, { state }) => sum + state.services.size, 0);
  }

  /** By name, the first cluster's first; where two clusters have one of the same name, the first's. */
  get services(): ReadonlyMap<ServiceName, Service> {
    const [{ state }] = this.#clusters;
    if (this.#clusters.length === 1) return state.services;
    return new Map(this.#clusters.toReversed().flatMap((cluster) => [...cluster.state.services]));
  }

  get nodes(): ReadonlyMap<NodeName, Node> {
    const [{ state }] = this.#clusters;
    if (this.#clusters.length === 1) return state.nodes;
    return new Map(this.#clusters.toReversed().flatMap((cluster) => [...cluster.state.nodes]));
  }

  /** A cluster's own exports and imports. */
  ownOf(cluster: string): OwnObjects | null {
    return this.#clusters.find(({ name }) => name === cluster)?.state.own ?? null;
  }

  directoryOf(node: NodeName): ClusterState {
    return this.#home(node).state;
  }

  zoneOf(id: ClassId): string | null {
    return zoneOfClass(this.#clusters.length > 1 ? clusterOfClass(id) : null, id);
  }

  slicesOf(service: ServiceName): readonly EndpointSlice[] {
    return this.#clusterWith(service).state.slicesOf(service);
  }

  sourceOf(service: ServiceName): string | null {
    return this.#clusterWith(service).state.sourceOf(service);
  }

  inputs(): readonly InputRevision[] {
    return this.#clusters.flatMap(({ state }) => state.own.inputs);
  }

  reports(): readonly SourceReport[] {
    return this.#clusters.flatMap(({ state }) => state.reports().slice(0, 1));
  }

  rejected(): readonly RejectedObject[] {
    return [
      ...this.#clusters.flatMap(({ state }) => state.rejected()),
      ...this.#refusals.all(),
      ...(this.#imports?.rejected() ?? []),
    ];
  }

  /** May the node be answered? */
  serves(node: NodeName): boolean {
    return this.#settled && this.#home(node).compute.inSync;
  }

  /**
   * Takes a round of events of one cluster. A batch for every step that changes some node's view: the cluster's own, then those of clusters that
   * import what changed. There is at least one when all has come in sync.
   */
  apply(source: string, events: readonly SourceEvent[]): readonly Batch[] {
    const cluster = this.#clusters.find(({ name }) => name === source);
    if (!cluster) throw new Error(`${source} is not one of the sources ${this.#clusters.map(({ name }) => name)}`);
    const wasLapsed = cluster.state.own.lapsed;
    const change = cluster.state.apply(source, events);
    const nowUs = events.reduce((latest, event) => ('observedAtUs' in event ? event.observedAtUs : latest), 0);
    if (this.#imports === null) {
      this.#settled = cluster.state.inSync;
      const batch = cluster.compute.update(change);
      return batch === null ? [] : [batch];
    }
    const batches: Batch[] = [];
    this.#update(cluster, change, nowUs, batches);
    this.#refresh(
      this.#imports,
      cluster,
      { change, lapsedTurned: cluster.state.own.lapsed !== wasLapsed },
      nowUs,
      batches,
    );
    const [causes, inputs] = [change?.causes ?? [], this.inputs()];
    return batches.map((batch) => ({ ...batch, causes, inputs }));
  }

  /** Computes the next few Services anew, of all clusters in proportion; a batch for each cluster in which that put something right. */
  audit(count: number): readonly Batch[] {
    const inputs = this.inputs();
    return this.#clusters.flatMap((cluster) => {
      const share = Math.ceil((count * cluster.state.services.size) / Math.max(1, this.size));
      const batch = share > 0 ? cluster.compute.audit(share) : null;
      return batch === null ? [] : [{ ...this.#ofThis(cluster, batch), inputs }];
    });
  }

  /** A daemon has said Hello; `cluster` counts where no Node object has its name. */
  registerNode(node: NodeName, zone: string | null, cluster = ''): void {
    const before = this.#homes.of(node);
    const after = this.#homes.register(node, zone, cluster);
    if (before !== after) this.#clusterNamed(before).compute.forgetNode(node);
    this.#clusterNamed(after).compute.registerNode(node, zone);
  }

  forgetNode(node: NodeName): void {
    this.#home(node).compute.forgetNode(node);
    this.#homes.forget(node);
  }

  /** Name of the cluster that a node belongs to. */
  clusterOf(node: NodeName): string {
    return this.#homes.of(node);
  }

  classOf(node: NodeName): ClassId {
    return this.#home(node).compute.classOf(node);
  }

  classRuleSet(id: ClassId): RuleSet {
    return this.#clusterNamed(clusterOfClass(id)).compute.classRuleSet(id);
  }

  classSums(id: ClassId): DigestSums {
    return this.#clusterNamed(clusterOfClass(id)).compute.classSums(id);
  }

  overlay(node: NodeName): ReadonlyMap<ServicePortKey, OverlayChange['after']> {
    return this.#home(node).compute.overlay(node);
  }

  viewDigest(node: NodeName): Digest {
    return this.#home(node).compute.viewDigest(node);
  }

  *allEntries(): Generator<Entry> {
    for (const { compute } of this.#clusters) yield* compute.allEntries();
  }

  ruleSet(node: NodeName): RuleSet {
    return this.#home(node).compute.ruleSet(node);
  }

  /** Nodes that are being deleted. Another set whenever it changes. */
  get leaving(): ReadonlySet<NodeName> {
    const parts = this.#clusters.map(({ state }) => state.leaving);
    if (parts.some((part, i) => part !== this.#leaving.parts[i]))
      this.#leaving = { parts, all: parts.reduce((all, part) => all.union(part)) };
    return this.#leaving.all;
  }

  /** What is exported is worked out again where one of its parts changed, and told to the clusters. */
  #refresh(
    imports: Imports,
    cluster: Cluster,
    { change, lapsedTurned }: { readonly change: StateChange | null; readonly lapsedTurned: boolean },
    nowUs: number,
    batches: Batch[],
  ): void {
    const wasSettled = this.#settled;
    this.#settled ||= this.#clusters.every(({ state }) => state.own.revision !== null || state.own.lapsed);
    if (!this.#settled) return;
    const isNew = cluster.state.own.revision !== null && !cluster.state.inSync;
    const names = new Set<ServiceName>();
    if (!wasSettled || isNew || lapsedTurned) for (const name of imports.names()) names.add(name);
    for (const name of change?.services ?? []) if (imports.isExported(name)) names.add(name);
    for (const name of change?.exports ?? []) names.add(name);
    // A cluster's Services are known once its state is in sync, for which it has to be told of the clusterset.
    this.#tell(batches, new Map(), nowUs);
    if (names.size === 0) return;
    this.#tell(batches, imports.refresh(names, nowUs), nowUs);
    this.#onImports(names);
  }

  #tell(batches: Batch[], events: ReadonlyMap<string, readonly SourceEvent[]>, observedAtUs: number): void {
    for (const cluster of this.#clusters) {
      const list = [...(events.get(cluster.name) ?? [])];
      const opens = cluster.state.own.revision !== null && !cluster.state.inSync;
      if (opens) list.push({ t: 'synced', incarnation: clustersetSource, revision: 0, observedAtUs });
      if (list.length > 0) this.#update(cluster, cluster.state.apply(clustersetSource, list), observedAtUs, batches);
    }
  }

  #update(cluster: Cluster, change: StateChange | null, nowUs: number, batches: Batch[]): void {
    const moved = this.#rehome(change?.nodes ?? [], nowUs);
    if (moved.length > 0) batches.push({ classes: new Map(), overlays: new Map(), moved, causes: [], inputs: [] });
    const batch = cluster.compute.update(change);
    if (batch !== null) batches.push(this.#ofThis(cluster, batch));
  }

  /** A node of another cluster may be called as one of this cluster's is: what is computed for this one is nobody's. */
  #ofThis(cluster: Cluster, batch: Batch): Batch {
    if (this.#clusters.length === 1) return batch;
    const isHere = (node: NodeName): boolean => this.#home(node) === cluster;
    const overlays = new Map([...batch.overlays].filter(([node]) => isHere(node)));
    return { ...batch, overlays, moved: batch.moved.filter(isHere) };
  }

  /** Node objects came or went: their nodes may belong to another cluster now. */
  #rehome(changed: Iterable<NodeName>, nowUs: number): readonly NodeName[] {
    const moved: NodeName[] = [];
    for (const node of changed) {
      const move = this.#homes.settle(node);
      if (move) {
        this.#clusterNamed(move.from).compute.forgetNode(node);
        this.#clusterNamed(move.to).compute.registerNode(node, move.zone);
        moved.push(node);
      }
      const [owner, ...others] = this.#clusters.filter(({ state }) => state.nodes.has(node));
      for (const { name } of this.#clusters) this.#refusals.clear(`${name} ${node}`);
      for (const { name, state } of owner ? others : [])
        this.#refusals.set(`${name} ${node}`, nowUs, {
          source: name,
          object: `Node ${node}`,
          location: state.nodes.get(node)?.meta.revision ?? '',
          reason: `cluster ${owner?.name} has a node of this name too and comes first; names of nodes have to be unique`,
        });
    }
    return moved;
  }

  #home(node: NodeName): Cluster {
    return this.#clusterNamed(this.#homes.of(node));
  }

  #clusterNamed(name: string): Cluster {
    return this.#clusters.find((cluster) => cluster.name === name) ?? this.#clusters[0];
  }

  #clusterWith(service: ServiceName): Cluster {
    return this.#clusters.find(({ state }) => state.services.has(service)) ?? this.#clusters[0];
  }
}
