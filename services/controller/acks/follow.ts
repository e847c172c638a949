import type { Cancel } from '../clock.ts';
import { Wait, type WaitOptions, type WaitProgress, type WaitSurroundings } from './wait.ts';

export interface FollowSurroundings extends WaitSurroundings {
  /** Calls back after every commit and whenever more input was read. The returned function ends it. */
  onAdvance(callback: () => void): () => void;
}

export interface FollowOptions extends Pick<WaitOptions, 'goal' | 'rules'> {
  /**
   * `each`: at once, then at most ten times a second while something changes and at least once, because nodes that are late become later; and without
   * delay when it is done. `last`: only when it is done.
   */
  readonly reports: 'each' | 'last';
  /** False: the receiver is behind, and nothing is reported until `drained`. */
  readonly report: (progress: WaitProgress) => boolean;
}

export interface Following {
  progress(): WaitProgress;
  stop(): void;
  /** The receiver takes reports again. */
  drained(): void;
}

/** What a person can follow; a list of 100 late nodes for every ack of 5,000 would slow the acks. */
const reportIntervalMs = 100;

const longestSilenceMs = 1000;

/** A wait, reported. It ends when it is done, or is stopped. */
export function follow(surroundings: FollowSurroundings, { goal, rules, reports, report }: FollowOptions): Following {
  const { clock, onAdvance } = surroundings;
  let isScheduled = false;
  let isBlocked = false;
  let hasStopped = false;
  let notBeforeUs = 0;
  let cancelLater: Cancel = () => undefined;

  const look = () => {
    isScheduled = false;
    if (isBlocked || hasStopped) return;
    cancelLater();
    const earlyMs = reports === 'each' ? Math.max(0, (notBeforeUs - clock.nowUs()) / 1000) : Number.POSITIVE_INFINITY;
    const progress = earlyMs > 0 && !wait.mayBeDone ? null : wait.progress();
    if (progress !== null && (progress.isDone || earlyMs === 0)) {
      notBeforeUs = clock.nowUs() + reportIntervalMs * 1000;
      isBlocked = !report(progress);
    }
    if (progress?.isDone) stop();
    else lookAgainIn(Math.min(earlyMs > 0 ? earlyMs : longestSilenceMs, progress?.againMs ?? Number.POSITIVE_INFINITY));
  };
  const lookAgainIn = (ms: number) => {
    if (Number.isFinite(ms)) cancelLater = clock.after(ms, look);
  };
  const schedule = () => {
    if (isScheduled || hasStopped) return;
    isScheduled = true;
    setImmediate(look);
  };
  const wait = new Wait(surroundings, { goal, rules, onChange: schedule });
  const stopAdvancing = onAdvance(() => wait.advance());
  const stop = () => {
    hasStopped = true;
    cancelLater();
    stopAdvancing();
    wait.stop();
  };
  schedule();
  return {
    progress: () => wait.progress(),
    stop,
    drained() {
      isBlocked = false;
      schedule();
    },
  };
}
