import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { History } from '../history/history.ts';
import { type Lateness, lateness } from './lateness.ts';
import { covers, type NodeRecord } from './node-record.ts';

/** What is waited for on each node. */
export interface Goal {
  look(record: NodeRecord): Verdict;
  /** There are new versions. True: they may change what was said of nodes, and every node is to be looked at again. */
  advance(): boolean;
  /** Why a node is late, where its own state does not say it. */
  whyLate(record: NodeRecord): Lateness | null;
  /** Entries that have to do with it; undefined: any. */
  readonly concernsKey: ((key: ServicePortKey) => boolean) | undefined;
  /** What it means that no node counts, in words: then it is not reached, because that would be a promise about nothing. */
  readonly nobody: string;
}

/** `unconcerned`: the node has nothing to do with it and does not count. */
export type Verdict = 'reached' | 'late' | 'unconcerned';

/** Why a node has not reached a goal. */
export const whyLate = (goal: Goal, record: NodeRecord, history: History, nowUs: number): Lateness =>
  goal.whyLate(record) ?? lateness(record, history, nowUs, goal.concernsKey);

export const noNodes = 'no node has connected; start one with: octoplane node --controller HOST:PORT';

/**
 * A node has a version, or nothing to do with it.
 * `concernsKey`: entries that must not be held back; undefined: none that the version changed.
 */
export const versionGoal = (sequence: number, concernsKey?: (key: ServicePortKey) => boolean): Goal => ({
  look: (record) => (covers(record, sequence, concernsKey) ? 'reached' : 'late'),
  advance: () => false,
  whyLate: () => null,
  concernsKey,
  nobody: noNodes,
});
