import { type ServerWritableStream, status } from '@grpc/grpc-js';
import type { WatchRequest, WatchResponse } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { stateOf } from '../acks/node-record.ts';
import type { Cancel } from '../clock.ts';
import { AdminError } from './admin-error.ts';
import type { WaitDependencies } from './wait-call.ts';

const defaultIntervalMs = 200;
/** What grows by itself is shown as often. */
const lateIntervalMs = 1000;

/** AdminService.Watch. What happens between two answers is one answer, and a client that does not read costs nothing. */
export function serveWatch(
  call: ServerWritableStream<WatchRequest, WatchResponse>,
  { history, book, clock, onAdvance, signal }: WaitDependencies,
): void {
  const intervalMs = call.request.intervalMs || defaultIntervalMs;
  let isDue = true;
  let isBlocked = false;
  let isResting = false;
  let cancelRest: Cancel = () => undefined;
  let cancelTick: Cancel = () => undefined;
  const answer = () => {
    if (!isDue || isBlocked || isResting || call.cancelled) return;
    isDue = false;
    isResting = true;
    cancelTick();
    isBlocked = !call.write({ head: history.headVersion });
    cancelRest = clock.after(intervalMs, () => {
      isResting = false;
      answer();
    });
    if (isSomebodyLate()) cancelTick = clock.after(Math.max(intervalMs, lateIntervalMs), changed);
  };
  const changed = () => {
    isDue = true;
    answer();
  };
  const isSomebodyLate = () => book.records.some((record) => stateOf(record) === 'late');
  const stopAdvancing = onAdvance(changed);
  const stopWatching = book.watch(changed);
  const leave = () => call.emit('error', new AdminError(status.UNAVAILABLE, 'the controller is going away'));
  const stop = () => {
    signal.removeEventListener('abort', leave);
    stopAdvancing();
    stopWatching();
    cancelRest();
    cancelTick();
  };
  signal.addEventListener('abort', leave);
  call.on('drain', () => {
    isBlocked = false;
    answer();
  });
  call.on('cancelled', stop);
  call.on('close', stop);
  answer();
}
