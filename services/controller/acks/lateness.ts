import { Nack_Reason } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { History } from '../history/history.ts';
import type { NodeRecord } from './node-record.ts';

/** Age of the oldest change that the node has not programmed, microseconds; 0: there is none. */
export function lagUs(record: NodeRecord, history: History, nowUs: number): number {
  if (record.owes === null) return 0;
  const oldest = history.at(Math.max(record.owes, history.oldestBase + 1));
  return oldest ? nowUs - oldest.committedAtUs : 0;
}

/** Why a node is late. */
export interface Lateness {
  readonly reason: 'slow' | 'refused' | 'disconnected' | 'absent' | 'never connected' | 'still chosen';
  readonly words: string;
}

/** `concernsKey`: what it is late for; refusals of other entries are not why. */
export function lateness(
  record: NodeRecord,
  history: History,
  nowUs: number,
  concernsKey: ((key: ServicePortKey) => boolean) | undefined = undefined,
): Lateness {
  const { connection } = record;
  const sinceThen = words(nowUs - connection.sinceUs);
  if (connection.t === 'disconnected') return { reason: 'disconnected', words: `disconnected for ${sinceThen}` };
  if (connection.t === 'absent')
    return { reason: 'absent', words: `has not come back since this controller started ${sinceThen} ago` };
  for (const [key, { reason, message }] of record.refused ?? []) {
    if (concernsKey && !concernsKey(key)) continue;
    return { reason: 'refused', words: `refused ${key}: ${message || reasonName(reason)}` };
  }
  if (record.lastError !== '') return { reason: 'refused', words: record.lastError };
  if (record.programmed === 0)
    return { reason: 'slow', words: `connected ${sinceThen} ago, has not programmed anything yet` };
  const owed = `owes version ${record.owes ?? record.programmed} for ${words(lagUs(record, history, nowUs))}`;
  return { reason: 'slow', words: `slow: ${owed}` };
}

/** Of a node that is asked for and that nobody has heard of. */
export const neverConnected = (hasNodeObject: boolean): Lateness => ({
  reason: 'never connected',
  words: hasNodeObject
    ? 'has a Node object, and no daemon of it has connected to this controller'
    : 'has not connected to this controller',
});

export const reasonName = (reason: Nack_Reason): string =>
  Object.entries(Nack_Reason).find(([, number]) => number === reason)?.[0] ?? 'UNRECOGNIZED';

function words(durationUs: number): string {
  const seconds = durationUs / 1_000_000;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
