import { type ServerWritableStream, status } from '@grpc/grpc-js';
import type { WaitRequest, WaitResponse } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import { type Following, type FollowSurroundings, follow } from '../acks/follow.ts';
import { type Goal, versionGoal } from '../acks/goal.ts';
import type { Quorum } from '../acks/quorum.ts';
import type { NodeSelection } from '../acks/selectors.ts';
import type { WaitRules } from '../acks/wait.ts';
import type { History } from '../history/history.ts';
import { AdminError } from './admin-error.ts';
import { keysOfService } from './services.ts';
import { progressToProto } from './to-proto.ts';

export interface WaitDependencies extends FollowSurroundings {
  readonly history: History;
  /** Aborted when the controller goes away: whoever waits is told to ask another. */
  readonly signal: AbortSignal;
}

interface WaitPlan {
  readonly request: WaitRequest;
  readonly rules: WaitRules;
  readonly service: ServiceName | null;
}

/** AdminService.Wait: first for the inputs, then for the nodes. Reports are conflated to what the client reads. */
export function serveWait(
  call: ServerWritableStream<WaitRequest, WaitResponse>,
  { request, rules, service }: WaitPlan,
  dependencies: WaitDependencies,
): void {
  const { history, clock, onAdvance, signal } = dependencies;
  let stop: () => void = () => undefined;
  const leave = () => call.emit('error', new AdminError(status.UNAVAILABLE, 'the controller is going away'));
  signal.addEventListener('abort', leave);
  call.on('cancelled', () => stop());
  call.on('close', () => {
    signal.removeEventListener('abort', leave);
    stop();
  });

  const waitForNodes = () => {
    const { sequence, goal } = targetOf(request, service, history);
    const version = { epoch: history.epoch, sequence };
    const following: Following = follow(dependencies, { goal, rules }, (progress) => {
      const isWritable = call.write(progressToProto(progress, version, history, clock.nowUs()));
      if (progress.isDone) call.end();
      return isWritable;
    });
    call.on('drain', () => following.drained());
    stop = () => following.stop();
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

/** @throws AdminError */
export function rulesOf(request: WaitRequest, selection: NodeSelection): WaitRules {
  const { quorumNodes, quorumPercent, ignoreGoneMs, everyNode } = request;
  return {
    selection,
    quorum: quorumOf(quorumNodes, quorumPercent),
    ignoreGoneMs: ignoreGoneMs === 0 ? null : ignoreGoneMs,
    everyNode,
  };
}

function quorumOf(nodes: number, percent: number): Quorum {
  if (nodes !== 0 && percent !== 0)
    throw new AdminError(status.INVALID_ARGUMENT, 'a quorum is a number of nodes or a share of them, not both');
  if (nodes !== 0) return { t: 'nodes', nodes };
  if (percent === 0) return { t: 'all' };
  if (!(percent > 0 && percent <= 100))
    throw new AdminError(status.INVALID_ARGUMENT, `a quorum of ${percent} % is not above 0 and at most 100`);
  return { t: 'percent', percent };
}

function targetOf(
  request: WaitRequest,
  service: ServiceName | null,
  history: History,
): { readonly sequence: number; readonly goal: Goal } {
  if (service === null) {
    const sequence = request.sequence || history.head;
    return { sequence, goal: versionGoal(sequence) };
  }
  const sequence = history.newestOf(service) ?? history.oldestBase;
  return { sequence, goal: versionGoal(sequence, keysOfService(service)) };
}
