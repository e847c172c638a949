import { Nack_Stage } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { Clock } from '../clock.ts';
import { type ReconcileObserver, silentObserver } from '../reconcile/observer.ts';

/** What /healthz and /livez say. */
export interface Health {
  /** Nothing that should be in the kernel has been waiting for too long. */
  readonly alive: boolean;
  /** Alive, programmed at least once, and on a node that stays. */
  readonly healthy: boolean;
  readonly nodeEligible: boolean;
  /** Milliseconds since 1970; now, while alive: as kube-proxy, which says that it is up to date even when nothing changed. */
  readonly lastUpdatedMs: number;
}

/**
 * The health of the service proxy with kube-proxy's meaning (P48, P49; KEP-3836): it fails when the state to be programmed
 * has been pending for longer than twice the sync period. Being cut off from the controller does not make it fail: what is in the kernel
 * goes on serving.
 *
 * One difference: /healthz fails until something has been programmed for the first time, so that a load balancer does not send
 * traffic to a node that cannot forward it yet (kubernetes/kubernetes 83263). /livez does not: a restart would not help.
 */
export class ProxyHealth {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #framePendingSinceMs: number | null = null;
  #kernelUnknownSinceMs: number | null = null;
  #lastProgrammedMs: number | null = null;
  #leaving = false;

  constructor(clock: Clock, syncPeriodMs: number) {
    this.#clock = clock;
    this.#timeoutMs = 2 * syncPeriodMs;
  }

  readonly observer: ReconcileObserver = {
    ...silentObserver,
    queued: () => {
      this.#framePendingSinceMs ??= this.#clock.nowMs();
    },
    programmed: () => this.#updated(),
    refused: ({ stage }) => {
      // Refused before the kernel: there is nothing left to be programmed.
      if (stage === Nack_Stage.VALIDATE) this.#framePendingSinceMs = null;
    },
    kernelState: (state) => {
      this.#kernelUnknownSinceMs = state.t === 'unknown' ? this.#clock.nowMs() : null;
      if (state.t === 'in-place') this.#lastProgrammedMs = this.#clock.nowMs();
    },
  };

  nodeState(state: { readonly leaving: boolean }): void {
    this.#leaving = state.leaving;
  }

  get health(): Health {
    const nowMs = this.#clock.nowMs();
    const pendingSinceMs = Math.min(this.#framePendingSinceMs ?? nowMs, this.#kernelUnknownSinceMs ?? nowMs);
    const alive = pendingSinceMs === nowMs || nowMs - pendingSinceMs < this.#timeoutMs;
    return {
      alive,
      healthy: alive && !this.#leaving && this.#lastProgrammedMs !== null,
      nodeEligible: !this.#leaving,
      lastUpdatedMs: alive ? nowMs : (this.#lastProgrammedMs ?? 0),
    };
  }

  #updated(): void {
    this.#framePendingSinceMs = null;
    this.#lastProgrammedMs = this.#clock.nowMs();
  }
}
