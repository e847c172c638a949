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
    const why = await alarm.within(delayMs, clock, signal);
    if (why === null) return;
    await reconciler.checkDrift(why);
    failures = reconciler.kernelState.t === 'unknown' ? failures + 1 : 0;
    if (!(await passed(clock, restMs, signal))) return;
  }
}

/** Remembers that something was heard until somebody listens. */
class Alarm {
  #what: string | null = null;
  #listener: (() => void) | null = null;

  raise(what: string): void {
    this.#what = what;
    this.#listener?.();
  }

  /** What was raised, 'sync period' when nothing was in time, or null when the signal was aborted. */
  async within(ms: number, clock: Clock, signal: AbortSignal): Promise<string | null> {
    const stop = new AbortController();
    const raised = new Promise<true>((resolve) => {
      this.#listener = () => resolve(true);
      if (this.#what !== null) resolve(true);
    });
    const timeUp = passed(clock, ms, AbortSignal.any([signal, stop.signal]));
    const inTime = await Promise.race([raised, timeUp]);
    stop.abort();
    this.#listener = null;
    const what = this.#what ?? 'sync period';
    this.#what = null;
    return inTime && !signal.aborted ? what : null;
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
