import type { EntryChange } from '@octoplane/model/delta.ts';
import type { Digest, DigestSums } from '@octoplane/model/digest.ts';
import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import type { RuleSet } from '@octoplane/model/rule-set.ts';

/**
 * What compute hands to history, and what history asks of compute.
 *
 * Nodes of one class (the same zone) have the same rule set but for their overlay: the few service ports whose entry
 * differs on that one node, because it hosts endpoints of a Local-policy Service or is named by a node hint.
 * A node's view is its overlay over its class.
 */
export interface Batch {
  /** Class-wide changes. A class is absent when nothing changed in it. */
  readonly classes: ReadonlyMap<ClassId, readonly EntryChange[]>;
  /**
   * Changes of single nodes' views, with what the node's whole view held before and holds after. For every node whose
   * overlay holds the key before or after the batch there is a record for each key that the batch touches, even when the
   * view stays as it is: it masks the class-wide change.
   */
  readonly overlays: ReadonlyMap<NodeName, readonly OverlayChange[]>;
  /**
   * Nodes that left their class for another; their next frame is a bucket repair. In the first batch: nodes that said Hello before it,
   * whose class is known from now on.
   */
  readonly moved: readonly NodeName[];
  /** What made the batch: objects in the order of their arrival. */
  readonly causes: readonly Cause[];
  /** How far each source had been read. */
  readonly inputs: readonly InputRevision[];
}

/** An EntryChange that may leave the view as it was: before === after, null included. */
export interface OverlayChange {
  readonly key: ServicePortKey;
  readonly before: EntryChange['before'];
  readonly after: EntryChange['after'];
}

/** Zone of the nodes, or "-" for nodes without one; with several clusters "CLUSTER/ZONE". */
export type ClassId = string;

export interface Cause {
  readonly source: string;
  /** "EndpointSlice default/web-abc". */
  readonly object: string;
  readonly isRemoval: boolean;
  readonly revision: string;
  /** Microseconds since 1970; the source's time where it gives one, otherwise observedAtUs. */
  readonly changedAtUs: number;
  readonly observedAtUs: number;
  readonly traceparent: string | null;
}

export interface InputRevision {
  readonly source: string;
  readonly incarnation: string;
  readonly revision: number;
}

/** The rule sets as of the newest batch. */
export interface Views {
  classOf(node: NodeName): ClassId;
  /** Empty sums and rule set for a class that no node has joined yet are made on demand. */
  classRuleSet(id: ClassId): RuleSet;
  classSums(id: ClassId): DigestSums;
  /** The node's own entries; null: this node has no such entry although its class does. */
  overlay(node: NodeName): ReadonlyMap<ServicePortKey, EntryChange['after']>;
  /** Of the node's whole view. O(1). */
  viewDigest(node: NodeName): Digest;
}
