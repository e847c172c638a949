/** First try again within this time, doubled with every failure. 200 ms: a controller that restarts is back in a second. */
export const firstDelayMs = 200;
/** 15 s: a node that was cut off for long is back soon after the controller is, and 5,000 of them are 333 tries a second. */
export const longestDelayMs = 15_000;

/**
 * How long to wait before the next connection: full jitter, a random share of an upper bound. After a conversation that had
 * a plan the bound is what the controller asked for, since it knows how many nodes will come back at once.
 */
export function reconnectDelayMs(failures: number, spreadMs: number | null, random: () => number): number {
  const bound = failures === 0 && spreadMs !== null ? spreadMs : Math.min(longestDelayMs, firstDelayMs * 2 ** failures);
  return Math.round(random() * bound);
}
