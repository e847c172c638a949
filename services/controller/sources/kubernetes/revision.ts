import { isFields } from '@octoplane/model/findings.ts';

/**
 * The resourceVersion of an object or a list. Kubernetes promises that those of one resource are numbers and can be compared (KEP-5504); with
 * etcd behind them, they always were. Null: it has none.
 */
export function revisionOf(value: unknown): number | null {
  const metadata = isFields(value) ? value['metadata'] : null;
  const text = isFields(metadata) ? metadata['resourceVersion'] : null;
  if (typeof text !== 'string' || !/^\d+$/.test(text)) return null;
  const revision = Number(text);
  return Number.isSafeInteger(revision) ? revision : null;
}
