import type { Digest } from '@octoplane/model/digest.ts';
import type { Durations, Nack_Reason } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { ClassId } from '../compute/batch.ts';
import type { Version } from '../history/history.ts';

/** What the controller knows about one node, across its streams. Kept small: there are thousands. */
export interface NodeRecord {
  readonly name: NodeName;
  zone: string;
  driver: string;
  release: string;
  connection: Connection;
  /** Classes the node was in, oldest first, since the oldest version that it owes. */
  residences: readonly Residence[];
  /** Newest version that the node's kernel is known to have; 0: none of this epoch. */
  programmed: number;
  /** As the node last said, perhaps of another epoch. */
  reported: Version | null;
  digest: Digest | null;
  /** Oldest version that changed this node's rule set and that it has not programmed; null: it owes nothing. */
  owes: number | null;
  /** Entries held back; null: none. */
  refused: Map<ServicePortKey, HeldBack> | null;
  /** The last refusal in words, until the next ack. */
  lastError: string;
  /** Commit to programmed ack of the newest version acknowledged, 0: none yet. */
  latencyUs: number;
  lastAckUs: number;
  durations: Durations | undefined;
  sentBytes: number;
}

export type Connection =
  | { readonly t: 'connected'; readonly sinceUs: number; readonly peer: string }
  | { readonly t: 'disconnected'; readonly sinceUs: number }
  /** The roster names it, and it has not come back since this controller started. */
  | { readonly t: 'absent'; readonly sinceUs: number };

export interface Residence {
  /** First version in this class. */
  readonly since: number;
  readonly id: ClassId;
}

export interface HeldBack {
  readonly reason: Nack_Reason;
  readonly message: string;
  /** What the node has instead; null: nothing. */
  readonly entry: Entry | null;
  /** Versions that the node counts as late for because of this entry. */
  readonly withheld: number[];
}

/** States of NodeStatus in admin.proto. */
export type NodeState = 'current' | 'late' | 'refusing' | 'disconnected';

export function stateOf(record: NodeRecord): NodeState {
  if (record.connection.t !== 'connected') return 'disconnected';
  if (record.refused !== null || record.lastError !== '') return 'refusing';
  return isCurrent(record) ? 'current' : 'late';
}

/** Everything that concerns the node is in its kernel, entries held back apart. */
export const isCurrent = (record: NodeRecord): boolean => record.programmed > 0 && record.owes === null;

/** Has the node this version, or nothing to do with it? With a service's keys, none of them may be held back. */
export function covers(record: NodeRecord, sequence: number, concernsKey?: (key: ServicePortKey) => boolean): boolean {
  if (record.programmed === 0 || (record.owes !== null && record.owes <= sequence)) return false;
  if (record.refused === null) return true;
  for (const [key, { withheld }] of record.refused)
    if (concernsKey ? concernsKey(key) : withheld.some((version) => version <= sequence)) return false;
  return true;
}

export function classAt(record: NodeRecord, sequence: number): ClassId {
  const { residences } = record;
  for (let i = residences.length - 1; i > 0; i--) {
    const residence = residences[i];
    if (residence && residence.since <= sequence) return residence.id;
  }
  return residences[0]?.id ?? '-';
}
