import type { ProgrammedAck } from '../acks/node-book.ts';
import type { NodeRecord } from '../acks/node-record.ts';
import type { FrameRefusal } from '../stream/session-context.ts';

/** Nodes that a trace shows one by one, of however many: more than that nobody reads, and not every viewer can draw. */
export const maxNotableNodes = 32;
const slowest = 10;

export type Distinction = 'refused' | 'late' | 'slowest' | 'first' | 'median' | 'canary';

export interface NotableNode {
  readonly node: NodeRecord;
  readonly for: readonly Distinction[];
  readonly fate: Fate;
}

export type Fate =
  | { readonly t: 'programmed'; readonly atUs: number; readonly ack: ProgrammedAck }
  | { readonly t: 'refused'; readonly atUs: number; readonly refusal: FrameRefusal }
  /** By the end of the trace. */
  | { readonly t: 'missing'; readonly why: string };

type Arrival = { readonly node: NodeRecord; readonly fate: Fate };

/**
 * Of all nodes that a change concerns, those that a trace shows: every refusal and every late node, the ten slowest, the first, the median and
 * a canary per zone, in this order as long as there is room. Acks come in the order of their latency, so each costs a few comparisons and
 * nothing is kept of the rest.
 */
export class NotableNodes {
  readonly #half: number;
  readonly #canaries: ReadonlySet<NodeRecord>;
  readonly #canaryArrivals: Arrival[] = [];
  readonly #slowest: Arrival[] = [];
  readonly #refused: Arrival[] = [];
  readonly #late: Arrival[] = [];
  #first: Arrival | null = null;
  #median: Arrival | null = null;
  /** Acks. */
  programmed = 0;
  /** Refusals of frames, those included that the trace does not show. */
  refusals = 0;

  constructor(nodes: ReadonlySet<NodeRecord>) {
    this.#half = Math.ceil(nodes.size / 2);
    this.#canaries = canariesOf(nodes);
  }

  arrived(node: NodeRecord, ack: ProgrammedAck, atUs: number, isLate: boolean): void {
    const arrival: Arrival = { node, fate: { t: 'programmed', atUs, ack } };
    this.#slowest[this.programmed++ % slowest] = arrival;
    if (this.programmed === 1) this.#first = arrival;
    if (this.programmed === this.#half) this.#median = arrival;
    if (this.#canaries.has(node)) this.#canaryArrivals.push(arrival);
    if (isLate && this.#late.length < maxNotableNodes) this.#late.push(arrival);
  }

  refused(node: NodeRecord, refusal: FrameRefusal, atUs: number): void {
    this.refusals++;
    if (this.#refused.length < maxNotableNodes) this.#refused.push({ node, fate: { t: 'refused', atUs, refusal } });
  }

  /** With those who have not answered by the end. */
  chosen(missing: readonly { readonly node: NodeRecord; readonly why: string }[]): readonly NotableNode[] {
    const found = new Map<NodeRecord, { readonly node: NodeRecord; for: Distinction[]; readonly fate: Fate }>();
    const choose = (distinction: Distinction, arrivals: readonly Arrival[]) => {
      for (const { node, fate } of arrivals) {
        const known = found.get(node);
        if (known) {
          if (!known.for.includes(distinction)) known.for.push(distinction);
        } else if (found.size < maxNotableNodes) found.set(node, { node, for: [distinction], fate });
      }
    };
    choose('refused', this.#refused);
    choose('late', [
      ...missing.map(({ node, why }): Arrival => ({ node, fate: { t: 'missing', why } })),
      ...this.#late,
    ]);
    choose('slowest', this.#slowest);
    choose('first', this.#first ? [this.#first] : []);
    choose('median', this.#median ? [this.#median] : []);
    choose('canary', this.#canaryArrivals);
    return [...found.values()];
  }
}

/** The first of each zone that the book names, which is the same as long as it is there: one line to compare over time. */
function canariesOf(nodes: ReadonlySet<NodeRecord>): ReadonlySet<NodeRecord> {
  const byZone = new Map<string, NodeRecord>();
  for (const node of nodes) {
    const zone = node.residences.at(-1)?.id ?? '-';
    if (!byZone.has(zone)) byZone.set(zone, node);
  }
  return new Set(byZone.values());
}
