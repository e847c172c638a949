import { type ServerWritableStream, status } from '@grpc/grpc-js';
import type { WaitRequest, WaitResponse } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import type { ServiceName, ServicePortKey } from '@octoplane/model/keys.ts';
import type { NodeBook } from '../acks/node-book.ts';
import type { NodeSelection } from '../acks/selectors.ts';
import { Wait } from '../acks/wait.ts';
import type { Cancel, Clock } from '../clock.ts';
import type { History } from '../history/history.ts';
import { AdminError } from './admin-error.ts';
import { keysOfService } from './services.ts';
import { progressToProto } from './to-proto.ts';

export interface WaitDependencies {
  readonly history: History;
  readonly book: NodeBook;
  readonly clock: Clock;
  /** Calls back after every commit and whenever more input was read. The returned function ends it. */
  onAdvance(callback: () => void): () => void;
  /** Aborted when the controller goes away: whoever waits is told to ask another. */
  readonly signal: AbortSignal;
}

/** What a person can follow; a list of 100 late nodes for every ack of 5,000 would slow the acks. */
const reportIntervalMs = 100;

interface WaitPlan {
  readonly request: WaitRequest;
  readonly selection: NodeSelection;
  readonly service: ServiceName | null;
}

/**
 * AdminService.Wait: first for the inputs, then for the nodes. Reports are conflated to ten a second and to what the client
 * reads; the last one is never late.
 */
export function serveWait(
  call: ServerWritableStream<WaitRequest, WaitResponse>,
  { request, selection, service }: WaitPlan,
  { history, book, clock, onAdvance, signal }: WaitDependencies,
): void {
  let stop: () => void = () => undefined;
  const leave = () => call.emit('error', new AdminError(status.UNAVAILABLE, 'the controller is going away'));
  signal.addEventListener('abort', leave);
  call.on('cancelled', () => stop());
  call.on('close', () => {
    signal.removeEventListener('abort', leave);
    stop();
  });

  const waitForNodes = () => {
    const target = targetOf(request, service, history);
    let isScheduled = false;
    let isBlocked = false;
    let notBeforeUs = 0;
    let cancelLater: Cancel = () => undefined;
    const report = () => {
      isScheduled = false;
      cancelLater();
      const nowUs = clock.nowUs();
      if (isBlocked || call.cancelled) return;
      if (nowUs < notBeforeUs && !wait.isDone) {
        cancelLater = clock.after((notBeforeUs - nowUs) / 1000, report);
        return;
      }
      notBeforeUs = nowUs + reportIntervalMs * 1000;
      const progress = wait.progress();
      const version = { epoch: history.epoch, sequence: target.sequence };
      isBlocked = !call.write(progressToProto(progress, version, history, nowUs));
      if (!progress.isDone) return;
      stop();
      call.end();
    };
    const schedule = () => {
      if (isScheduled) return;
      isScheduled = true;
      setImmediate(report);
    };
    call.on('drain', () => {
      isBlocked = false;
      schedule();
    });
    const wait = new Wait(book, { ...target, selection }, schedule);
    stop = () => {
      cancelLater();
      wait.stop();
    };
    schedule();
  };

  if (hasRead(request, history)) {
    waitForNodes();
    return;
  }
  stop = onAdvance(() => {
    if (!hasRead(request, history)) return;
    stop();
    waitForNodes();
  });
}

/** @throws AdminError for a source that is not one. */
export function hasRead(request: WaitRequest, history: History): boolean {
  if (history.head === 0) return false;
  return request.inputs.every(({ source, incarnation, revision }) => {
    const input = history.inputs.find((one) => one.source === source);
    if (!input) throw new AdminError(status.NOT_FOUND, `there is no source ${source}`);
    return (incarnation === '' || incarnation === input.incarnation) && input.revision >= revision;
  });
}

function targetOf(
  request: WaitRequest,
  service: ServiceName | null,
  history: History,
): { readonly sequence: number; readonly concernsKey: ((key: ServicePortKey) => boolean) | undefined } {
  if (service === null) return { sequence: request.sequence || history.head, concernsKey: undefined };
  return { sequence: history.newestOf(service) ?? history.oldestBase, concernsKey: keysOfService(service) };
}
