import type { Clock } from '../clock.ts';
import type { Driver } from '../drivers/driver.ts';
import type { Reconciler } from './reconciler.ts';

export interface SelfHealingOptions {
  readonly driver: Pick<Driver, 'watch'>;
  readonly reconciler: Pick<Reconciler, 'checkDrift' | 'kernelState'>;
  readonly clock: Clock;
  /** The longest that a disturbance stays unnoticed where the kernel does not tell. 30 s, as kube-proxy's syncPeriod. */
  readonly syncPeriodMs: number;
}

/** After a check the next one waits this long, so that a neighbour that flushes in a loop does not make us spin. */
const restMs = 1000;

/**
 * Checks the kernel for drift: at once when it tells of a disturbance, otherwise every sync period, and with back-off while
 * it is not known to be in place. Ends when the signal is aborted.
 */
export async function healKernel(options: SelfHealingOptions, signal: AbortSignal): Promise<void> {
  const { driver, reconciler, clock, syncPeriodMs } = options;
  const alarm = new Alarm();
  driver.watch((what) => alarm.raise(what), signal);
  let failures = 0;
  while (!signal.aborted) {
    const unknown = reconciler.kernelState.t === 'unknown';
    const delayMs = unknown ? Math.min(syncPeriodMs, 1000 * 2 ** failures) : syncPeriodMs;
    const heard = await alarm.within(delayMs, clock, signal);
    if (heard.t === 'stopped') return;
    if (heard.t === 'alarm') await reconciler.checkDrift(heard.what, 'alarm');
    else await reconciler.checkDrift('sync period', 'routine');
    failures = reconciler.kernelState.t === 'unknown' ? failures + 1 : 0;
    if (!(await passed(clock, restMs, signal))) return;
  }
}

type Heard = { readonly t: 'alarm'; readonly what: string } | { readonly t: 'quiet' } | { readonly t: 'stopped' };

/** Remembers that something was heard until somebody listens. */
class Alarm {
  #what: string | null = null;
  #listener: (() => void) | null = null;

  raise(what: string): void {
    this.#what = what;
    this.#listener?.();
  }

  async within(ms: number, clock: Clock, signal: AbortSignal): Promise<Heard> {
    const stop = new AbortController();
    const raised = new Promise<void>((resolve) => {
      this.#listener = resolve;
      if (this.#what !== null) resolve();
    });
    await Promise.race([raised, passed(clock, ms, AbortSignal.any([signal, stop.signal]))]);
    stop.abort();
    this.#listener = null;
    if (signal.aborted) return { t: 'stopped' };
    const what = this.#what;
    this.#what = null;
    return what === null ? { t: 'quiet' } : { t: 'alarm', what };
  }
}

/** False when the signal came first. */
async function passed(clock: Clock, ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await clock.after(ms, signal);
    return true;
  } catch (error) {
    if (signal.aborted) return false;
    throw error;
  }
}
