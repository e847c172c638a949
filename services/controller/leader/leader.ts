/**
 * Of several controllers one leads, and only that one writes: addresses of imports, conditions of exports. Everything else every controller does
 * by itself, so nothing waits for an election.
 *
 *   1. A term is over on the leader's side before anybody else can begin one: its lease is counted from when it was last renewed, on a
 *      monotonic clock. Wall clocks decide nothing.
 *   2. When the term is over the writes of it stop at once: the signal aborts them, and where the store can check it in the same transaction,
 *      one that is on its way is refused (Guard).
 *   3. Without a leader nothing is lost: what has been written counts, and what has not is written by the next.
 */
export interface Leader {
  /** For logs: where the lease is. */
  readonly place: string;

  /** Does `work` while this controller leads, once a term, until the signal aborts. Failures that may pass are tried again. */
  lead(work: (term: Term) => Promise<void>, signal: AbortSignal): Promise<void>;
}

export interface Term {
  /** Aborted when the term is over, or the controller ends. */
  readonly signal: AbortSignal;
}
