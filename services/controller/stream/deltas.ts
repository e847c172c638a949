import { entryDeltaToProto } from '@octoplane/model/codec.ts';
import { diffEntry } from '@octoplane/model/delta.ts';
import { type Digest, entryDifference, wrap } from '@octoplane/model/digest.ts';
import type { NodeName } from '@octoplane/model/keys.ts';
import type { Clock } from '../clock.ts';
import type { ClassId } from '../compute/batch.ts';
import { type Conflated, conflateClass, conflateView, movedInputs } from '../history/conflate.ts';
import type { Commit, History } from '../history/history.ts';
import { cut, encodeChange, encodeFrame, seal, sizeOf, type UnsealedFrame } from './frame-bytes.ts';
import type { FrameObserver } from './session-context.ts';

/** From one version to the head, for one class or for one node. */
export interface DeltaFrame {
  readonly changes: Conflated;
  /** What the changes add to a digest. */
  readonly difference: Digest;
  /**
   * The frame with a node's digest. Encoded when first asked for, because many deltas are only looked at; most nodes of a class have
   * the same digest and share the very same bytes.
   */
  messages(digest: Digest): readonly Buffer[];
}

/** Memoised class deltas. A herd of nodes at the same few cursors shares them; more cursors than this are encoded again. */
const memoSize = 64;

/** Traces that one frame names at most; the history keeps them all. */
const maxTraceparents = 16;

/** Deltas out of the history, encoded once for all nodes of a class that hold the same version. */
export class Deltas {
  readonly #history: History;
  readonly #clock: Clock;
  readonly #observer: Pick<FrameObserver, 'encoded'> | null;
  readonly #memo = new Map<string, DeltaFrame>();
  #memoHead = 0;

  constructor(history: History, clock: Clock, observer: Pick<FrameObserver, 'encoded'> | null) {
    this.#history = history;
    this.#clock = clock;
    this.#observer = observer;
  }

  /** From `from` to the head; null when only a repair can do: `from` is beyond the horizon, or the node changed its class. */
  forNode(node: NodeName, id: ClassId, from: number): DeltaFrame | null {
    const head = this.#history.head;
    const commits = this.#history.between(from, head);
    if (commits === null || commits.some(({ batch }) => batch.moved.includes(node))) return null;
    if (commits.some(({ batch }) => batch.overlays.has(node)))
      return this.encode(conflateView(commits, id, node), from, commits);
    if (this.#memoHead !== head) {
      this.#memo.clear();
      this.#memoHead = head;
    }
    const name = `${from}/${id}`;
    const known = this.#memo.get(name);
    if (known) return known;
    const made = this.encode(conflateClass(commits, id), from, commits);
    if (this.#memo.size < memoSize) this.#memo.set(name, made);
    return made;
  }

  /** A frame of these changes; for nodes that are held back from some of them. */
  encode(changes: Conflated, from: number, commits: readonly Commit[]): DeltaFrame {
    let unsealed: UnsealedFrame | null = null;
    let newest: { readonly digest: Digest; readonly messages: readonly Buffer[] } | null = null;
    let difference = 0n;
    for (const { before, after } of changes.values()) difference += entryDifference(before, after);
    const { epoch, headVersion } = this.#history;
    const baseInputs = this.#history.at(from)?.batch.inputs ?? null;
    const encode = () => {
      const fromUs = this.#clock.nowUs();
      const made = encodeDelta({ changes, from: { epoch, sequence: from }, to: headVersion, commits, baseInputs });
      this.#observer?.encoded({
        from,
        to: headVersion.sequence,
        fromUs,
        toUs: this.#clock.nowUs(),
        bytes: sizeOf(made),
      });
      return made;
    };
    return {
      changes,
      difference: wrap(difference),
      messages(digest) {
        unsealed ??= encode();
        if (newest?.digest !== digest) newest = { digest, messages: seal(unsealed, digest) };
        return newest.messages;
      },
    };
  }

  commitsSince(from: number): readonly Commit[] {
    return this.#history.between(from, this.#history.head) ?? [];
  }
}

interface DeltaParts {
  readonly changes: Conflated;
  readonly from: History['headVersion'];
  readonly to: History['headVersion'];
  readonly commits: readonly Commit[];
  readonly baseInputs: Commit['batch']['inputs'] | null;
}

function encodeDelta({ changes, from, to, commits, baseInputs }: DeltaParts): UnsealedFrame {
  const newest = commits.at(-1);
  const bodies = cut(encodedChanges(changes)).map((group) => ({ changes: group, repair: undefined }));
  return encodeFrame(from, to, bodies, {
    committedAtUs: newest?.committedAtUs ?? 0,
    traceparents: traceparentsOf(commits),
    inputs: movedInputs(baseInputs, newest?.batch.inputs ?? []),
  });
}

function* encodedChanges(changes: Conflated): Generator<Buffer> {
  for (const { key, before, after } of changes.values()) {
    const delta = diffEntry(before, after);
    if (delta) yield encodeChange(entryDeltaToProto(key, delta));
  }
}

export function traceparentsOf(commits: readonly Commit[]): string[] {
  const found = new Set<string>();
  for (const { batch } of commits)
    for (const { traceparent } of batch.causes) {
      if (found.size === maxTraceparents) return [...found];
      if (traceparent !== null) found.add(traceparent);
    }
  return [...found];
}
