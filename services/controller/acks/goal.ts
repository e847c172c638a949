import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { covers, type NodeRecord } from './node-record.ts';

/** What is waited for on each node. */
export interface Goal {
  isReached(record: NodeRecord): boolean;
  /** There are new versions. True: every node is to be looked at again. */
  advance(): boolean;
  /** Why it cannot be reached yet whatever nodes acknowledge, in words; null: it can. */
  pending(): string | null;
}

/**
 * A node has a version, or nothing to do with it.
 * `concernsKey`: entries that must not be held back; undefined: none that the version changed.
 */
export const versionGoal = (sequence: number, concernsKey?: (key: ServicePortKey) => boolean): Goal => ({
  isReached: (record) => covers(record, sequence, concernsKey),
  advance: () => false,
  pending: () => null,
});
