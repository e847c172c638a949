import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { Views } from '../compute/batch.ts';
import { viewEntry } from '../compute/view-entry.ts';
import { changeOf } from '../history/conflate.ts';
import type { History } from '../history/history.ts';
import { classAt, type NodeRecord } from './node-record.ts';

export interface KernelKnowledge {
  readonly history: History;
  readonly views: Pick<Views, 'classOf' | 'classRuleSet' | 'overlay'>;
}

/**
 * The node may have anything: it has connected and its plan is not settled, it has not come back since this controller started, or it is
 * further behind than the history remembers.
 */
export const isUnknown = ({ programmed, owes }: NodeRecord, history: History): boolean =>
  programmed === 0 || (owes !== null && owes <= history.oldestBase);

/**
 * Everything that a node's kernel may hold for a service port; null: anything. One element: it is certain. Of an entry that changed since the
 * node's last ack it is what it was then and what it has become in every version since, because a frame with any of them may be in the
 * kernel by now, its ack under way or lost. The last one is what the node's view has.
 */
export function kernelEntries(
  record: NodeRecord,
  key: ServicePortKey,
  { history, views }: KernelKnowledge,
): readonly (Entry | null)[] | null {
  if (isUnknown(record, history)) return null;
  const held = record.refused?.get(key);
  const entries: (Entry | null)[] = [];
  if (record.owes !== null) {
    for (let sequence = record.owes; sequence <= history.head; sequence++) {
      const commit = history.at(sequence);
      // A node that moved to another class is repaired; what that changes is in no batch.
      if (!commit || commit.batch.moved.includes(record.name)) return null;
      const change = changeOf(commit.batch, record.name, classAt(record, sequence), key);
      if (change === null || change.before === change.after) continue;
      if (entries.length === 0) entries.push(held ? held.entry : change.before);
      entries.push(change.after);
    }
  }
  if (entries.length > 0) return entries;
  return [held ? held.entry : viewEntry(views, record.name, key)];
}
