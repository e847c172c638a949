import type { EntryChange } from '@octoplane/model/delta.ts';
import type { WholeFrame } from './frame.ts';
import type { HeldRuleSet } from './held.ts';
import type { KernelEvents, KernelState } from './kernel.ts';
import type { FrameRefusal } from './validate.ts';

/** What happens in the reconciler, for health, metrics and whatever else follows the held rule set. Must not throw. */
export interface ReconcileObserver extends KernelEvents {
  /** A frame has arrived whole and waits for the kernel. */
  queued(frame: WholeFrame): void;
  /** It is in the kernel and was read back. */
  programmed(done: Programmed): void;
  refused(refusal: FrameRefusal): void;
  /** The held rule set is another one; also called for the journal's at the start. */
  committed(changes: readonly EntryChange[], held: HeldRuleSet): void;
  /** Somebody else had altered the kernel, and it has been put right. */
  driftRepaired(repaired: { readonly entries: number; readonly objects: number }): void;
  /** The kernel became unknown, or is in place again. */
  kernelState(state: KernelState): void;
}

export interface Programmed {
  /** Relative to what was held. */
  readonly changes: readonly EntryChange[];
  readonly full: boolean;
  /** From the frame's arrival to the end of the read-back. */
  readonly durationUs: number;
  /** Microseconds since 1970 on the controller's clock. */
  readonly committedAtUs: number;
}

/** Tells several. */
export function observers(list: readonly ReconcileObserver[]): ReconcileObserver {
  const each = (tell: (observer: ReconcileObserver) => void) => {
    for (const observer of list) tell(observer);
  };
  return {
    queued: (frame) => each((observer) => observer.queued(frame)),
    programmed: (done) => each((observer) => observer.programmed(done)),
    refused: (refusal) => each((observer) => observer.refused(refusal)),
    committed: (changes, held) => each((observer) => observer.committed(changes, held)),
    driftRepaired: (repaired) => each((observer) => observer.driftRepaired(repaired)),
    kernelState: (state) => each((observer) => observer.kernelState(state)),
    fullSync: (why) => each((observer) => observer.fullSync(why)),
    dumped: (entries) => each((observer) => observer.dumped(entries)),
    failed: (step, full) => each((observer) => observer.failed(step, full)),
  };
}

/** For who cares about a few of them. */
export const silentObserver: ReconcileObserver = {
  queued: () => undefined,
  programmed: () => undefined,
  refused: () => undefined,
  committed: () => undefined,
  driftRepaired: () => undefined,
  kernelState: () => undefined,
  fullSync: () => undefined,
  dumped: () => undefined,
  failed: () => undefined,
};
