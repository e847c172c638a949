import type { Cancel } from '../clock.ts';
import { Wait, type WaitOptions, type WaitProgress, type WaitSurroundings } from './wait.ts';

export interface FollowSurroundings extends WaitSurroundings {
  /** Calls back after every commit and whenever more input was read. The returned function ends it. */
  onAdvance(callback: () => void): () => void;
}

export interface Following {
  stop(): void;
  /** The receiver takes reports again. */
  drained(): void;
}

/** What a person can follow; a list of 100 late nodes for every ack of 5,000 would slow the acks. */
const reportIntervalMs = 100;

/**
 * A wait, reported: at once, then at most ten times a second while something changes, and no later than at once when it is done, with which it
 * ends. `report` answers false when the receiver is behind; then nothing is reported until `drained`.
 */
export function follow(
  surroundings: FollowSurroundings,
  { goal, rules }: Pick<WaitOptions, 'goal' | 'rules'>,
  report: (progress: WaitProgress) => boolean,
): Following {
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
    const nowUs = clock.nowUs();
    const isEarly = nowUs < notBeforeUs;
    const progress = isEarly && !wait.mayBeDone ? null : wait.progress();
    if (progress === null || (isEarly && !progress.isDone)) {
      cancelLater = clock.after((notBeforeUs - nowUs) / 1000, look);
      return;
    }
    notBeforeUs = nowUs + reportIntervalMs * 1000;
    isBlocked = !report(progress);
    if (progress.isDone) stop();
    else if (progress.againMs !== null) cancelLater = clock.after(progress.againMs, look);
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
    stop,
    drained() {
      isBlocked = false;
      schedule();
    },
  };
}
