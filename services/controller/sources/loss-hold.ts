import type { ClusterObject } from '@octoplane/model/objects.ts';
import type { Clock } from '../clock.ts';
import { defaultHoldMs, isSuspiciousLoss, type LossGuardOptions } from './loss-guard.ts';

/** Holds a suspicious loss back until it has lasted for holdMs, or is one no longer. */
export class LossHold {
  readonly #options: LossGuardOptions;
  readonly #clock: Clock;
  readonly #onOver: () => void;
  #cancel: (() => void) | null = null;
  #over = false;
  #reason: string | null = null;

  /** `onOver`: time to judge again. */
  constructor(options: LossGuardOptions, clock: Clock, onOver: () => void) {
    this.#options = options;
    this.#clock = clock;
    this.#onOver = onOver;
  }

  /** What is held back, for people; null when nothing is. */
  get reason(): string | null {
    return this.#reason;
  }

  /** Must what is missing be kept, for now? */
  judge(
    told: { readonly services: number; readonly endpoints: number },
    missing: readonly { readonly object: ClusterObject }[],
  ): boolean {
    const loss = isSuspiciousLoss(told, missing, this.#options);
    if (loss.t === 'plausible' || this.#over) {
      this.close();
      this.#over = false;
      this.#reason = null;
      return false;
    }
    const holdMs = this.#options.holdMs ?? defaultHoldMs;
    this.#cancel ??= this.#clock.after(holdMs, () => {
      this.#over = true;
      this.#onOver();
    });
    this.#reason = `${loss.what}; they are kept for ${holdMs / 1000} s in case they come back`;
    return true;
  }

  close(): void {
    this.#cancel?.();
    this.#cancel = null;
  }
}
