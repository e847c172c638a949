import { Nack_Reason } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { History } from '../history/history.ts';
import type { NodeRecord } from './node-record.ts';

/** Age of the oldest change that the node has not programmed, microseconds; 0: there is none. */
export function lagUs(record: NodeRecord, history: History, nowUs: number): number {
  if (record.owes === null) return 0;
  const oldest = history.at(Math.max(record.owes, history.oldestBase + 1));
  return oldest ? nowUs - oldest.committedAtUs : 0;
}

/** Why a node is late, in words. */
export function whyLate(record: NodeRecord, history: History, nowUs: number): string {
  const { connection } = record;
  if (connection.t === 'disconnected') return `disconnected for ${words(nowUs - connection.sinceUs)}`;
  for (const [key, { reason, message }] of record.refused ?? [])
    return `refused ${key}: ${message || reasonName(reason)}`;
  if (record.lastError !== '') return record.lastError;
  if (record.programmed === 0)
    return `connected ${words(nowUs - connection.sinceUs)} ago, has not programmed anything yet`;
  return `slow: owes version ${record.owes ?? record.programmed} for ${words(lagUs(record, history, nowUs))}`;
}

export const reasonName = (reason: Nack_Reason): string =>
  Object.entries(Nack_Reason).find(([, number]) => number === reason)?.[0] ?? 'UNRECOGNIZED';

function words(durationUs: number): string {
  const seconds = durationUs / 1_000_000;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
