import { traceIdOf } from '@octoplane/model/trace-id.ts';
import type { Percentile } from '../acks/convergence.ts';
import { lateness } from '../acks/lateness.ts';
import type { ArrivalObserver, ProgrammedAck } from '../acks/node-book.ts';
import type { NodeRecord } from '../acks/node-record.ts';
import type { Cancel, Clock } from '../clock.ts';
import { touches } from '../history/conflate.ts';
import type { Commit, History } from '../history/history.ts';
import { traceparentsOf } from '../stream/deltas.ts';
import type { EncodedFrame, FrameObserver, FrameRefusal } from '../stream/session-context.ts';
import { ChangeTrace, type EndedChange, type MissingNode } from './change-trace.ts';
import type { HeadSampling } from './sampling.ts';

export interface TracerOptions {
  readonly history: History;
  readonly clock: Clock;
  readonly sampling: HeadSampling;
  /** Nodes that a version concerns and that do not have it. */
  readonly missing: (sequence: number) => readonly NodeRecord[];
  /** Takes a change whose trace is kept. Must return at once. */
  readonly keep: (change: EndedChange) => void;
  /** A node that takes longer is late. Default 5 s: ten times what 5,000 nodes may take together. */
  readonly lateAfterMs?: number;
  /** A late change is told without its last nodes after this. Default 60 s: most of what comes back at all is back by then. */
  readonly giveUpAfterMs?: number;
  /** Changes on their way. Default 1,024: beyond that the oldest is told as it is, so that memory stays bounded. */
  readonly maxOpen?: number;
}

/**
 * Follows every change from its commit to the last node's ack, and hands on those whose trace is kept.
 *
 *   1. Nothing here is written or sent: spans are made afterwards, from what was noted.
 *   2. Whether a trace is kept is drawn when the change is committed. A change that a node refuses, or that is late, is kept however the draw
 *      went, unless traces are off.
 *   3. An ack costs what NotableNodes says, kept or not.
 *   4. A node that was not connected when the change was committed is counted, and not waited for beyond `lateAfterMs`: a node that is gone for a
 *      day would make every change of that day a late one.
 */
export class Tracer implements ArrivalObserver, FrameObserver {
  readonly #options: Required<TracerOptions>;
  /** In the order of their versions. */
  readonly #open = new Map<number, { readonly trace: ChangeTrace; stop: Cancel; isKept: boolean }>();

  constructor(options: TracerOptions) {
    this.#options = { lateAfterMs: 5000, giveUpAfterMs: 60_000, maxOpen: 1024, ...options };
  }

  /** Id of the trace of a change on its way, where it is kept so far as is known. */
  traceOf({ sequence }: Commit): string | null {
    const { epoch } = this.#options.history;
    return this.#open.get(sequence)?.isKept ? traceIdOf({ epoch, sequence }) : null;
  }

  concerned(commit: Commit, nodes: ReadonlySet<NodeRecord>): void {
    // What there was when all sources came in sync is no change.
    if (commit.sequence === 1) return;
    const { clock, history, sampling, lateAfterMs, maxOpen } = this.#options;
    const { sequence } = commit;
    const traceId = traceIdOf({ epoch: history.epoch, sequence });
    const trace = new ChangeTrace(commit, nodes, clock.nowUs());
    const isKept = sampling.draw(traceId, traceparentsOf([commit]));
    this.#open.set(sequence, { trace, isKept, stop: clock.after(lateAfterMs, () => this.#overdue(sequence)) });
    const [oldest] = this.#open.keys();
    if (oldest !== undefined && this.#open.size > maxOpen) this.#end(oldest);
  }

  encoded(frame: EncodedFrame): void {
    for (let sequence = frame.from + 1; sequence <= frame.to; sequence++)
      this.#open.get(sequence)?.trace.noteEncoding(frame);
  }

  written(commits: readonly Commit[]): void {
    const nowUs = this.#options.clock.nowUs();
    for (const { sequence } of commits) {
      const open = this.#open.get(sequence);
      if (!open) continue;
      open.trace.writtenAtUs = nowUs;
      if (open.trace.concerned === 0 || open.trace.reached.has(100)) this.#end(sequence);
    }
  }

  arrived({ sequence }: Commit, node: NodeRecord, ack: ProgrammedAck, nowUs: number): void {
    const open = this.#open.get(sequence);
    if (!open) return;
    open.trace.nodes.arrived(node, ack, nowUs, open.trace.isLate);
    open.trace.lastAnswerUs = nowUs;
  }

  reached({ sequence }: Commit, percentile: Percentile, latencyUs: number): void {
    const open = this.#open.get(sequence);
    if (!open) return;
    open.trace.reached.set(percentile, latencyUs);
    // The last ack can come while others are still written to.
    if (percentile === 100 && open.trace.writtenAtUs !== null) this.#end(sequence);
  }

  refused(node: NodeRecord, refusal: FrameRefusal): void {
    const nowUs = this.#options.clock.nowUs();
    for (
      let sequence = Math.max(refusal.from, this.#options.history.oldestBase) + 1;
      sequence <= refusal.to;
      sequence++
    ) {
      const open = this.#open.get(sequence);
      if (!open || !isAbout(refusal, open.trace.commit, node)) continue;
      open.isKept = open.isKept || this.#options.sampling.keepsNotable;
      open.trace.nodes.refused(node, refusal, nowUs);
      open.trace.lastAnswerUs = nowUs;
    }
  }

  /** Tells what is on its way as it is. */
  close(): void {
    for (const sequence of this.#open.keys()) this.#end(sequence);
  }

  #overdue(sequence: number): void {
    const open = this.#open.get(sequence);
    if (!open) return;
    const { clock, sampling, lateAfterMs, giveUpAfterMs } = this.#options;
    if (this.#missing(open.trace).every(({ wasAway }) => wasAway)) {
      this.#end(sequence);
      return;
    }
    open.trace.isLate = true;
    open.isKept = open.isKept || sampling.keepsNotable;
    open.stop = clock.after(giveUpAfterMs - lateAfterMs, () => this.#end(sequence));
  }

  #missing({ commit }: ChangeTrace): MissingNode[] {
    const { history, clock, missing } = this.#options;
    const nowUs = clock.nowUs();
    return missing(commit.sequence).map((node) => {
      const { connection } = node;
      const wasAway = connection.t !== 'connected' && connection.sinceUs <= commit.committedAtUs;
      return { node, wasAway, why: lateness(node, history, nowUs).words };
    });
  }

  #end(sequence: number): void {
    const open = this.#open.get(sequence);
    if (!open) return;
    open.stop();
    this.#open.delete(sequence);
    if (!open.isKept) return;
    const { clock, history, keep } = this.#options;
    const missing = open.trace.reached.has(100) ? [] : this.#missing(open.trace);
    keep(open.trace.end(history.epoch * 1000, missing, clock.nowUs()));
  }
}

/** A refusal that names entries concerns the changes that touch them; any other, all that the frame carried. */
function isAbout({ keys }: FrameRefusal, commit: Commit, node: NodeRecord): boolean {
  if (keys.length === 0) return true;
  const id = node.residences.at(-1)?.id ?? '-';
  return keys.some((key) => touches(commit.batch, node.name, id, key));
}
