import type { Durations } from '@octoplane/model/gen/octoplane/v1/stream.ts';

/** Microseconds on the controller's clock. */
export interface Interval {
  readonly fromUs: number;
  readonly toUs: number;
}

/** A node's work on a frame, on the controller's clock. They follow one another without a gap; what is left until the ack is its way back. */
export interface PlacedWork {
  /** On its way, and arrived whole. */
  readonly receive: Interval;
  readonly validate: Interval;
  readonly program: Interval;
  readonly readBack: Interval;
}

/**
 * Places what a node measured, by its own clock and since a frame arrived, into the time between the frame and its ack.
 *
 *   1. No time of day of a node is ever used, so no latency depends on how its clock is set.
 *   2. What the node did not spend is taken for the two ways, half each: the only thing that is assumed.
 *   3. Nothing lies outside of the window and nothing is negative, whatever the node says: work that is longer than the window
 *      (a clock that runs fast, a lie) is shortened to fit, and steps out of order are put into order.
 */
export function place({ fromUs, toUs }: Interval, durations: Durations): PlacedWork {
  const windowUs = Math.max(0, toUs - fromUs);
  const validatedUs = durations.validatedUs;
  const appliedUs = Math.max(validatedUs, durations.appliedUs);
  const readBackUs = Math.max(appliedUs, durations.readBackUs);
  const scale = readBackUs > windowUs ? windowUs / readBackUs : 1;
  const arrivedUs = fromUs + Math.floor(Math.max(0, windowUs - readBackUs * scale) / 2);
  const at = (sinceArrivalUs: number) => Math.min(toUs, arrivedUs + Math.floor(sinceArrivalUs * scale));
  return {
    receive: { fromUs, toUs: arrivedUs },
    validate: { fromUs: arrivedUs, toUs: at(validatedUs) },
    program: { fromUs: at(validatedUs), toUs: at(appliedUs) },
    readBack: { fromUs: at(appliedUs), toUs: at(readBackUs) },
  };
}
