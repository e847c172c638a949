import type { Ack, Nack } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { StreamError } from './stream-error.ts';

/** @throws StreamError when a node claims what it was never sent. `sent`: the newest sequence that it was. */
export function requireHonest(ack: Ack, epoch: number, sent: number): void {
  if (ack.epoch !== epoch) throw new StreamError('out-of-sequence', `an Ack of epoch ${ack.epoch}, this is ${epoch}`);
  if (Math.max(ack.received, ack.validated, ack.programmed) > sent)
    throw new StreamError('out-of-sequence', `an Ack of what was never sent: ${ack.programmed}, sent ${sent}`);
}

/** @throws StreamError when a Nack is not about the frame that is unanswered. */
export function requireCurrent({ refused }: Nack, epoch: number, unanswered: number): void {
  if (refused?.epoch !== epoch || refused.sequence !== unanswered)
    throw new StreamError('out-of-sequence', `a Nack of ${refused?.sequence}, ${unanswered} is unanswered`);
}
