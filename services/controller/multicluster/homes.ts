import type { NodeName } from '@octoplane/model/keys.ts';
import type { ClusterState } from '../state/cluster-state.ts';

interface Cluster {
  readonly name: string;
  readonly state: ClusterState;
}

interface Registered {
  readonly zone: string | null;
  /** As the daemon has it; may be none of ours. */
  readonly cluster: string;
  readonly home: string;
}

/** Which cluster each node belongs to: whose Node object it is, otherwise what its daemon says, otherwise the first cluster's. */
export class Homes {
  readonly #clusters: readonly [Cluster, ...Cluster[]];
  readonly #registered = new Map<NodeName, Registered>();

  constructor(clusters: readonly [Cluster, ...Cluster[]]) {
    this.#clusters = clusters;
  }

  of(node: NodeName): string {
    return this.#registered.get(node)?.home ?? this.#choose(node, '');
  }

  register(node: NodeName, zone: string | null, cluster: string): string {
    const home = this.#choose(node, cluster);
    this.#registered.set(node, { zone, cluster, home });
    return home;
  }

  forget(node: NodeName): void {
    this.#registered.delete(node);
  }

  /** A Node object came or went. Null: the node stays where it is, or no daemon of its name is known. */
  settle(node: NodeName): { readonly from: string; readonly to: string; readonly zone: string | null } | null {
    const known = this.#registered.get(node);
    if (!known) return null;
    const home = this.#choose(node, known.cluster);
    if (home === known.home) return null;
    this.#registered.set(node, { ...known, home });
    return { from: known.home, to: home, zone: known.zone };
  }

  #choose(node: NodeName, named: string): string {
    const owner = this.#clusters.find(({ state }) => state.nodes.has(node));
    return (owner ?? this.#clusters.find(({ name }) => name === named) ?? this.#clusters[0]).name;
  }
}
