/** How many of the nodes that count must have something. */
export type Quorum =
  | { readonly t: 'all' }
  | { readonly t: 'nodes'; readonly nodes: number }
  /** More than 0, at most 100. */
  | { readonly t: 'percent'; readonly percent: number };

/** A number that is more than there are is all of them and more: it is not reached before so many have come. */
export function requiredOf(quorum: Quorum, nodes: number): number {
  if (quorum.t === 'nodes') return quorum.nodes;
  // In millionths, so that 33.3 % of 1,000 is 333 and not 334 by a rounding of floating point.
  if (quorum.t === 'percent') return Math.ceil((nodes * Math.round(quorum.percent * 10_000)) / 1_000_000);
  return nodes;
}
