import {
  type InputRevision,
  type Plan,
  Plan_Kind,
  type StreamResponse,
  type Version,
} from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { WholeFrame } from '../reconcile/frame.ts';
import { FrameCollector } from './collect.ts';

/** The node's side of stream.proto, without the stream: what a message means in the state that the conversation is in. */
export type ConversationState =
  /** Hello is sent. */
  | { readonly t: 'greeting' }
  /** Nothing is unanswered. */
  | { readonly t: 'following' }
  /** Parts of a frame have come, and more will. */
  | { readonly t: 'collecting'; readonly collector: FrameCollector }
  /** A frame waits for its answer. */
  | { readonly t: 'programming' };

export type Instruction =
  | { readonly t: 'wait' }
  | { readonly t: 'rename'; readonly version: Version; readonly inputs: readonly InputRevision[] }
  | { readonly t: 'send-digests' }
  | { readonly t: 'program'; readonly frame: WholeFrame }
  | { readonly t: 'node-state'; readonly leaving: boolean }
  | { readonly t: 'move'; readonly to: string; readonly reason: string }
  /** Out of sequence or beyond a limit: end the stream. */
  | { readonly t: 'violation'; readonly message: string };

export interface Step {
  readonly state: ConversationState;
  readonly instruction: Instruction;
}

export function onMessage(state: ConversationState, response: StreamResponse, bytes: number, nowUs: number): Step {
  const { message } = response;
  if (message === undefined) return violation(state, 'a message of a kind that this release does not know');
  switch (message.$case) {
    case 'plan':
      return state.t === 'greeting' ? onPlan(message.value) : onLaterPlan(state, message.value);
    case 'frame': {
      if (state.t === 'greeting') return violation(state, 'a frame before the plan');
      if (state.t === 'programming') return violation(state, 'a frame before the last one was answered');
      const collector = state.t === 'collecting' ? state.collector : new FrameCollector();
      const collected = collector.add(message.value, bytes, nowUs);
      if (collected.t === 'broken') return violation(state, collected.message);
      if (collected.t === 'more') return { state: { t: 'collecting', collector }, instruction: { t: 'wait' } };
      return { state: { t: 'programming' }, instruction: { t: 'program', frame: collected.frame } };
    }
    case 'nodeState':
      if (state.t === 'greeting') return violation(state, 'a node state before the plan');
      return { state, instruction: { t: 'node-state', leaving: message.value.leaving } };
    case 'move':
      return { state, instruction: { t: 'move', to: message.value.to, reason: message.value.reason } };
  }
}

/** The frame that was being programmed has been answered. */
export const onAnswered = (): ConversationState => ({ t: 'following' });

function onPlan(plan: Plan): Step {
  const state: ConversationState = { t: 'following' };
  switch (plan.kind) {
    case Plan_Kind.UP_TO_DATE:
      if (plan.head === undefined || plan.head.epoch === 0)
        return violation({ t: 'greeting' }, 'a plan without the head');
      return { state, instruction: { t: 'rename', version: plan.head, inputs: plan.inputs } };
    case Plan_Kind.BUCKET_REPAIR:
      return { state, instruction: { t: 'send-digests' } };
    case Plan_Kind.DELTA:
    case Plan_Kind.SNAPSHOT:
      return { state, instruction: { t: 'wait' } };
    default:
      return violation({ t: 'greeting' }, `a plan of unknown kind ${plan.kind}`);
  }
}

/** Where a delta cannot do, a controller asks for the digests again. */
function onLaterPlan(state: ConversationState, plan: Plan): Step {
  if (state.t !== 'following') return violation(state, 'a plan while a frame is unanswered');
  if (plan.kind !== Plan_Kind.BUCKET_REPAIR) return violation(state, 'a second plan that is not a bucket repair');
  return { state, instruction: { t: 'send-digests' } };
}

const violation = (state: ConversationState, message: string): Step => ({
  state,
  instruction: { t: 'violation', message },
});
