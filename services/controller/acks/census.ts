import type { NodeName } from '@octoplane/model/keys.ts';
import type { Clock } from '../clock.ts';
import type { NodeBook } from './node-book.ts';
import type { Unseen } from './selectors.ts';

export interface CensusOptions {
  readonly book: NodeBook;
  /** Of all sources. */
  readonly nodeObjects: () => ReadonlyMap<NodeName, Unseen>;
  readonly clock: Clock;
  /** A roster with nodes in it was found at the start. */
  readonly hasRoster: boolean;
  /** ControllerOptions.settleMs */
  readonly settleMs: number;
}

/**
 * Which nodes there should be. An answer "on every node" is worth as much as this list:
 *
 *   1. A node counts from its first Hello on, and until it is forgotten: gone for an hour (fleet.ts). With --state-dir that
 *      outlives the controller (roster.ts).
 *   2. A controller that has just started has not heard of everybody. Until it has settled, nothing that waits for nodes is done:
 *      every node of the roster and of the Node objects is back, or, where some stay away, the time has passed that nodes need
 *      to come back.
 *   3. A Node object whose daemon has never connected may be of a machine on which none runs. It is waited for until the
 *      controller has settled, and named as not counted after that; who wants it counted for good says so (Wait's everyNode).
 */
export class Census {
  readonly #book: NodeBook;
  readonly #nodeObjects: CensusOptions['nodeObjects'];
  readonly #clock: Clock;
  readonly #hasRoster: boolean;
  readonly #settleMs: number;
  /** Null: not open yet. */
  #openedAtUs: number | null = null;
  #hasSettled = false;

  constructor({ book, nodeObjects, clock, hasRoster, settleMs }: CensusOptions) {
    this.#book = book;
    this.#nodeObjects = nodeObjects;
    this.#clock = clock;
    this.#hasRoster = hasRoster;
    this.#settleMs = settleMs;
  }

  /** Nodes can be served from now on. */
  open(): void {
    this.#openedAtUs = this.#clock.nowUs();
  }

  /** Node objects whose daemon this controller does not know, in the order of their names. */
  missing(): readonly Unseen[] {
    const missing: Unseen[] = [];
    for (const [name, node] of this.#nodeObjects()) if (this.#book.find(name) === null) missing.push(node);
    return missing.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** 0: settled, and it stays so. */
  settlingMs(): number {
    if (this.#hasSettled) return 0;
    if (this.#openedAtUs === null) return this.#settleMs;
    const left = this.#settleMs - (this.#clock.nowUs() - this.#openedAtUs) / 1000;
    this.#hasSettled = left <= 0 || this.#isEverybodyBack();
    return this.#hasSettled ? 0 : Math.ceil(left);
  }

  /** With neither a roster nor Node objects nobody knows who everybody is. */
  #isEverybodyBack(): boolean {
    if (!this.#hasRoster && this.#nodeObjects().size === 0) return false;
    for (const { connection } of this.#book.records) if (connection.t === 'absent') return false;
    return this.missing().length === 0;
  }
}
