import type { NodeName } from '@octoplane/model/keys.ts';

export type Percentile = 50 | 99 | 100;

type OnReached = (percentile: Percentile, latencyUs: number) => void;

/**
 * How far one version has come, exactly: of the nodes whose rule set it changes, how many have it in their kernel, and when the
 * 50th, 99th and 100th percentile had it. Counting a node costs a few additions.
 */
export class Convergence {
  nodes: number;
  programmed = 0;
  /** Microseconds from commit to programmed ack; null: not yet. */
  p50Us: number | null = null;
  p99Us: number | null = null;
  p100Us: number | null = null;
  /** Last to acknowledge, once all have. */
  slowest: NodeName | null = null;
  readonly #onReached: OnReached;
  #latest: NodeName | null = null;
  #latestUs = 0;

  constructor(nodes: number, onReached: OnReached) {
    this.nodes = nodes;
    this.#onReached = onReached;
    this.#settle();
  }

  get isComplete(): boolean {
    return this.programmed >= this.nodes;
  }

  count(node: NodeName, latencyUs: number): void {
    this.programmed++;
    this.#latest = node;
    this.#latestUs = latencyUs;
    this.#settle();
  }

  /** A node that did not have it is gone for good. */
  drop(): void {
    this.nodes--;
    this.#settle();
  }

  #settle(): void {
    if (this.nodes <= 0) return;
    if (this.p50Us === null && this.programmed >= Math.ceil(this.nodes * 0.5)) this.p50Us = this.#reached(50);
    if (this.p99Us === null && this.programmed >= Math.ceil(this.nodes * 0.99)) this.p99Us = this.#reached(99);
    if (this.p100Us !== null || !this.isComplete) return;
    this.p100Us = this.#reached(100);
    this.slowest = this.#latest;
  }

  #reached(percentile: Percentile): number {
    this.#onReached(percentile, this.#latestUs);
    return this.#latestUs;
  }
}
