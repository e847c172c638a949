import type { ClusterObject } from '@octoplane/model/objects.ts';
import type { ObjectId } from '@octoplane/model/project.ts';

/**
 * Where objects come from: a directory, etcd, a Kubernetes API server. One source is one cluster.
 *
 * Guarantees of every source, on which the cluster state relies:
 *   1. Events of one call of `emit` belong together: the state takes them as one change.
 *   2. 'synced' follows the objects it vouches for: with it, everything up to `revision` has been emitted. Before the first one
 *      the picture is incomplete, and nothing is computed from it.
 *   3. Stale, never empty. A source that cannot see its objects says 'stale' and removes nothing; the next 'synced' ends it. After
 *      a gap it emits the difference between what it told before and what is, so that no endpoint flaps.
 *   4. A bad object is 'rejected' and concerns nobody else. What was told of it before stays until it is good again or gone.
 *   5. Memory is bounded by the objects, not by their changes.
 */
export interface Source {
  /** Of the cluster, as in --source NAME=...; unique among the sources of a controller. */
  readonly name: string;
  /** "file:DIR", "etcd:URL", "kubernetes:CONTEXT", without credentials. */
  readonly location: string;

  /**
   * Reads and watches until the signal aborts, then resolves.
   * @throws SourceError when it cannot ever work as configured. Everything that may pass is 'stale' instead.
   */
  run(emit: (events: readonly SourceEvent[]) => void, signal: AbortSignal): Promise<void>;

  /**
   * Another replica has read further than this one has vouched for, and nodes wait for it. Called again while they do. For sources
   * whose revisions grow by what is not theirs to read, and which can find out that there was nothing else.
   */
  catchUp?(): void;
}

export type SourceEvent =
  | { readonly t: 'upserted'; readonly object: ClusterObject; readonly observedAtUs: number }
  | {
      readonly t: 'removed';
      readonly id: ObjectId;
      /** Of the removal, as the source gives it. */
      readonly revision: string;
      readonly changedAtUs: number | null;
      readonly observedAtUs: number;
    }
  | ({ readonly t: 'synced'; readonly observedAtUs: number } & Claim)
  | { readonly t: 'stale'; readonly reason: string; readonly observedAtUs: number }
  /** Stale, or not yet in sync, for longer than the lease of its cluster (cluster-lease.ts). The next 'synced' ends it. */
  | { readonly t: 'lapsed'; readonly observedAtUs: number }
  | { readonly t: 'rejected'; readonly rejection: Rejection; readonly observedAtUs: number }
  | { readonly t: 'cleared'; readonly place: string };

/** How far a source has been read. */
export interface Claim {
  readonly incarnation: string;
  /** Never decreases within one `incarnation`. */
  readonly revision: number;
  /** Where the source is several collections whose revisions say nothing of each other: that of each, by its name. `revision` is then for people. */
  readonly parts?: Readonly<Record<string, number>>;
}

/** An object that could not be taken. */
export interface Rejection {
  /** Names the rejection within its source; a later one with the same place takes its place. */
  readonly place: string;
  /** "Service default/web", or the place where no object could be told. */
  readonly object: string;
  /** For people: "services.yaml:12:3", a key, a resource path. */
  readonly location: string;
  /** What is wrong and what to do. */
  readonly reason: string;
}

export type SourceErrorCode =
  | 'DIRECTORY_MISSING'
  | 'NOT_A_DIRECTORY'
  | 'PERMISSION_DENIED'
  | 'NO_WATCHES'
  | 'KUBECONFIG'
  | 'UNSUPPORTED';

/** A source that cannot work as configured; the message says what to do. */
export class SourceError extends Error {
  override readonly name = 'SourceError';
  readonly code: SourceErrorCode;
  constructor(code: SourceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
