import { Frame, Plan, Plan_Kind, type StreamResponse } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { emptyRuleSet } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { repairFrame } from '../testing/frames.ts';
import { firstDelayMs, longestDelayMs, reconnectDelayMs } from './backoff.ts';
import { mostFrameBytes } from './collect.ts';
import { type ConversationState, onMessage } from './protocol.ts';

const frame = repairFrame(emptyRuleSet, { to: { epoch: 1, sequence: 1 } });
const following: ConversationState = { t: 'following' };
const meet = (state: ConversationState, message: StreamResponse['message'], bytes = 10) =>
  onMessage(state, { message }, bytes, 0);
const plan = (kind: Plan_Kind, fields: Partial<Plan> = {}): StreamResponse['message'] => ({
  $case: 'plan',
  value: { ...Plan.create(), ...fields, kind },
});

describe('what a message means', () => {
  it.each<[string, ConversationState, StreamResponse['message'], string, string]>([
    [
      'the plan that nothing is missing',
      { t: 'greeting' },
      plan(Plan_Kind.UP_TO_DATE, { head: { epoch: 1, sequence: 2 } }),
      'rename',
      'following',
    ],
    ['the plan of a bucket repair', { t: 'greeting' }, plan(Plan_Kind.BUCKET_REPAIR), 'send-digests', 'following'],
    ['a bucket repair later on', following, plan(Plan_Kind.BUCKET_REPAIR), 'send-digests', 'following'],
    [
      'a bucket repair while a frame is unanswered',
      { t: 'programming' },
      plan(Plan_Kind.BUCKET_REPAIR),
      'violation',
      'programming',
    ],
    ['another plan later on', following, plan(Plan_Kind.SNAPSHOT), 'violation', 'following'],
    ['a plan of no kind', { t: 'greeting' }, plan(Plan_Kind.UNSPECIFIED), 'violation', 'greeting'],
    ['nothing missing of no version', { t: 'greeting' }, plan(Plan_Kind.UP_TO_DATE), 'violation', 'greeting'],
    ['a frame', following, { $case: 'frame', value: frame }, 'program', 'programming'],
    ['a part of one', following, { $case: 'frame', value: { ...frame, more: true } }, 'wait', 'collecting'],
    ['a frame before the plan', { t: 'greeting' }, { $case: 'frame', value: frame }, 'violation', 'greeting'],
    ['a second frame', { t: 'programming' }, { $case: 'frame', value: frame }, 'violation', 'programming'],
    ['a frame that leads nowhere', following, { $case: 'frame', value: Frame.create() }, 'violation', 'following'],
    [
      'the state of the node',
      { t: 'programming' },
      { $case: 'nodeState', value: { leaving: true } },
      'node-state',
      'programming',
    ],
    ['a move', { t: 'programming' }, { $case: 'move', value: { to: '', reason: '' } }, 'move', 'programming'],
    ['what only newer releases know', following, undefined, 'violation', 'following'],
  ])('%s', (_, state, message, instruction, next) => {
    const step = meet(state, message);
    expect([step.instruction.t, step.state.t]).toEqual([instruction, next]);
  });

  it('parts without an end are not kept for ever', () => {
    const part = { $case: 'frame' as const, value: { ...frame, more: true } };
    const first = meet(following, part, mostFrameBytes);
    expect(meet(first.state, part, 1).instruction.t).toBe('violation');
  });
});

describe('reconnecting', () => {
  it('waits a random time up to a bound that doubles, and up to what the controller asked for after a conversation', () => {
    fc.assert(
      fc.property(
        fc.nat(40),
        fc.option(fc.nat(60_000)),
        fc.double({ min: 0, max: 0.999_999, noNaN: true }),
        (failures, spread, share) => {
          const bound =
            failures === 0 && spread !== null ? spread : Math.min(longestDelayMs, firstDelayMs * 2 ** failures);
          const delay = reconnectDelayMs(failures, spread, () => share);
          expect(delay).toBeGreaterThanOrEqual(0);
          expect(delay).toBeLessThanOrEqual(bound);
        },
      ),
    );
    expect(reconnectDelayMs(3, null, () => 0.999_999)).toBe(8 * firstDelayMs);
  });
});
