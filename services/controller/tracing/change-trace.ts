import type { Percentile } from '../acks/convergence.ts';
import type { NodeRecord } from '../acks/node-record.ts';
import { happenedAtUs } from '../acks/trigger-time.ts';
import type { Commit } from '../history/history.ts';
import type { EncodedFrame } from '../stream/session-context.ts';
import { type NotableNode, NotableNodes } from './notable-nodes.ts';
import type { Interval } from './placement.ts';

/** Encodings that a trace shows: a zone each, and a few for nodes with entries of their own. The rest is counted. */
const maxEncodings = 8;

/** What is noted of one change on its way: numbers and a few references, whether its trace will be kept or not. */
export class ChangeTrace {
  readonly commit: Commit;
  /** When its nodes were known. */
  readonly bookedAtUs: number;
  readonly nodes: NotableNodes;
  readonly concerned: number;
  readonly encodings: EncodedFrame[] = [];
  encoded = 0;
  /** Everyone who could take it was written to; null: not yet. */
  writtenAtUs: number | null = null;
  /** So many per cent had it so long after the commit. */
  readonly reached = new Map<Percentile, number>();
  isLate = false;
  lastAnswerUs: number;

  constructor(commit: Commit, nodes: ReadonlySet<NodeRecord>, nowUs: number) {
    this.commit = commit;
    this.nodes = new NotableNodes(nodes);
    this.concerned = nodes.size;
    this.bookedAtUs = nowUs;
    this.lastAnswerUs = nowUs;
  }

  noteEncoding(frame: EncodedFrame): void {
    this.encoded++;
    if (this.encodings.length < maxEncodings) this.encodings.push(frame);
  }

  end(sinceUs: number, missing: readonly MissingNode[], nowUs: number): EndedChange {
    const { commit, nodes } = this;
    return {
      commit,
      observe: observing(commit, sinceUs),
      bookedAtUs: this.bookedAtUs,
      writtenAtUs: this.writtenAtUs,
      endedAtUs: missing.length > 0 ? nowUs : Math.max(this.lastAnswerUs, this.writtenAtUs ?? 0, this.bookedAtUs),
      concerned: this.concerned,
      programmed: nodes.programmed,
      refusals: nodes.refusals,
      missing: missing.length,
      away: missing.filter(({ wasAway }) => wasAway).length,
      reached: this.reached,
      encodings: this.encodings,
      encoded: this.encoded,
      notable: nodes.chosen(missing.filter(({ wasAway }) => !wasAway)),
    };
  }
}

/** From the oldest event behind it to the last that we saw. A node that changed its zone by itself has none. */
function observing({ batch, computedFromUs }: Commit, sinceUs: number): Interval {
  let fromUs = computedFromUs;
  let toUs = 0;
  for (const cause of batch.causes) {
    fromUs = Math.min(fromUs, happenedAtUs(cause, sinceUs));
    toUs = Math.max(toUs, cause.observedAtUs);
  }
  return { fromUs, toUs: Math.max(fromUs, Math.min(toUs, computedFromUs)) };
}

export interface MissingNode {
  readonly node: NodeRecord;
  readonly why: string;
  /** It was not connected when the change was committed: nobody could have sent it anything. */
  readonly wasAway: boolean;
}

/** A change whose story is told. */
export interface EndedChange {
  readonly commit: Commit;
  /** From the event at the source until we saw it. */
  readonly observe: Interval;
  readonly bookedAtUs: number;
  readonly writtenAtUs: number | null;
  readonly endedAtUs: number;
  readonly concerned: number;
  readonly programmed: number;
  readonly refusals: number;
  readonly missing: number;
  /** Of these, the ones that were not there when it was committed. */
  readonly away: number;
  readonly reached: ReadonlyMap<Percentile, number>;
  readonly encodings: readonly EncodedFrame[];
  readonly encoded: number;
  readonly notable: readonly NotableNode[];
}
