import type { InputRevision } from '../compute/batch.ts';
import { laggingInput } from '../history/conflate.ts';

/** Why a node has to wait for this controller. */
export interface Lag {
  /** Null: the node did not say which. */
  readonly source: string | null;
  readonly words: string;
}

/** `theirs`: what the node has programmed. */
export function lagOf(ours: readonly InputRevision[], theirs: readonly InputRevision[]): Lag | null {
  const lag = laggingInput(ours, theirs);
  if (lag === null) return null;
  const words = `this controller has read ${lag.source} up to ${lag.ours}, the node has programmed ${lag.theirs}`;
  return { source: lag.source, words };
}
