import type { Cause } from '../compute/batch.ts';

/**
 * When a change happened, as its source tells, on a clock that is not ours. What cannot be is not believed: a time after we saw the change,
 * and one before `sinceUs`, the start of this line of versions: a file that is put in place with an old time stamp, say. Both are
 * taken for the time at which we saw it.
 */
export const happenedAtUs = ({ changedAtUs, observedAtUs }: Cause, sinceUs: number): number =>
  changedAtUs > observedAtUs || changedAtUs < sinceUs ? observedAtUs : changedAtUs;

/** Of the oldest change of endpoints behind a version, as kube-proxy counts them: what was deleted has no time. Null: there is none. */
export function endpointsTriggeredAtUs(causes: readonly Cause[], sinceUs: number): number | null {
  let oldest: number | null = null;
  for (const cause of causes) {
    if (cause.isRemoval || !cause.object.startsWith('EndpointSlice ')) continue;
    const atUs = happenedAtUs(cause, sinceUs);
    if (oldest === null || atUs < oldest) oldest = atUs;
  }
  return oldest;
}
