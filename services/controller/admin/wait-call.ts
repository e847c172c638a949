import { type ServerWritableStream, status } from '@grpc/grpc-js';
import {
  EndpointCondition_State,
  type WaitRequest,
  type WaitResponse,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import { EndpointGoal, type EndpointGoalOptions } from '../acks/endpoint-goal.ts';
import type { EndpointIndex } from '../acks/endpoint-index.ts';
import { parseEndpointTarget } from '../acks/endpoint-target.ts';
import { type FollowSurroundings, follow } from '../acks/follow.ts';
import { type Goal, versionGoal, whyLate } from '../acks/goal.ts';
import type { KernelKnowledge } from '../acks/kernel-entries.ts';
import type { Quorum } from '../acks/quorum.ts';
import type { NodeSelection } from '../acks/selectors.ts';
import type { WaitProgress, WaitRules } from '../acks/wait.ts';
import type { History } from '../history/history.ts';
import { AdminError } from './admin-error.ts';
import { keysOfService } from './services.ts';
import { progressToProto } from './to-proto.ts';

export interface WaitDependencies extends FollowSurroundings, KernelKnowledge {
  readonly endpoints: EndpointIndex;
  /** Aborted when the controller goes away: whoever waits is told to ask another. */
  readonly signal: AbortSignal;
}

interface WaitPlan {
  readonly request: WaitRequest;
  readonly rules: WaitRules;
  readonly service: ServiceName | null;
  /** Null: a version is waited for. */
  readonly condition: EndpointCondition | null;
}

type EndpointCondition = Omit<EndpointGoalOptions, 'service'>;

/** AdminService.Wait: first for the inputs, then for the nodes. Reports are conflated to what the client reads. */
export function serveWait(
  call: ServerWritableStream<WaitRequest, WaitResponse>,
  plan: WaitPlan,
  dependencies: WaitDependencies,
): void {
  const { request, rules } = plan;
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
    const { sequence, goal } = targetOf(plan, dependencies);
    const report = (progress: WaitProgress): boolean => {
      const nowUs = clock.nowUs();
      const version = { epoch: history.epoch, sequence: sequence ?? history.head };
      const isWritable = call.write(
        progressToProto(progress, { version, whyLate: (record) => whyLate(goal, record, history, nowUs) }),
      );
      if (progress.isDone) call.end();
      return isWritable;
    };
    const following = follow(dependencies, { goal, rules, reports: 'each', report });
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

/** Null: a version is waited for. @throws AdminError */
export function conditionOf({ endpoint, sequence }: WaitRequest): EndpointCondition | null {
  if (endpoint === undefined) return null;
  const target = parseEndpointTarget(endpoint.address);
  const state = states[endpoint.state];
  if (target === null)
    throw new AdminError(
      status.INVALID_ARGUMENT,
      `"${endpoint.address}" is no endpoint; write 10.244.1.2:8080, [fd00::1]:8080, or an address for all its ports`,
    );
  if (state === undefined) throw new AdminError(status.INVALID_ARGUMENT, 'an endpoint is PROGRAMMED or GONE');
  if (sequence !== 0) throw new AdminError(status.INVALID_ARGUMENT, 'wait for an endpoint or for a version, not both');
  return { target, state };
}

const states: Readonly<Record<number, EndpointGoalOptions['state']>> = {
  [EndpointCondition_State.PROGRAMMED]: 'programmed',
  [EndpointCondition_State.GONE]: 'gone',
};

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

/** `sequence` null: the newest version, whichever that is. */
function targetOf(
  { request, service, condition }: WaitPlan,
  { history, views, endpoints }: WaitDependencies,
): { readonly sequence: number | null; readonly goal: Goal } {
  if (condition !== null)
    return { sequence: null, goal: new EndpointGoal({ ...condition, service }, { history, views }, endpoints) };
  if (service === null) {
    const sequence = request.sequence || history.head;
    return { sequence, goal: versionGoal(sequence) };
  }
  const sequence = history.newestOf(service) ?? history.oldestBase;
  return { sequence, goal: versionGoal(sequence, keysOfService(service)) };
}
