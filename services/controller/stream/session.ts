import { digestFromBytes, formatDigest } from '@octoplane/model/digest.ts';
import { type Ack, type Hello, type Nack, Nack_Reason, Plan_Kind } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { nodeName } from '@octoplane/model/keys.ts';
import { reasonName } from '../acks/lateness.ts';
import type { SentFrame } from '../acks/node-book.ts';
import type { NodeRecord } from '../acks/node-record.ts';
import type { Cancel } from '../clock.ts';
import { requireCurrent, requireHonest } from './answers.ts';
import type { Release } from './gate.ts';
import { type HeldBackEntries, nothingHeldBack } from './held-back.ts';
import { type Lag, lagOf } from './lag.ts';
import { decodeRequest, encodeMove, encodeNodeState, encodePlan } from './messages.ts';
import { type NextFrame, nextFrame } from './next-frame.ts';
import { choosePlan } from './plan-choice.ts';
import { baseAfter, refusedEntries } from './refusals.ts';
import type { Base, Link, SessionContext } from './session-context.ts';
import { StreamError } from './stream-error.ts';
import { kindName, named, stageName } from './words.ts';

type State =
  | { readonly t: 'awaiting-hello'; readonly stop: Cancel }
  /** Nothing is in sync yet, or this controller lags behind what the node has programmed. */
  | { readonly t: 'awaiting-inputs'; readonly hello: Hello | null; readonly lag: () => Lag | null }
  | { readonly t: 'awaiting-buckets'; readonly stop: Cancel }
  | { readonly t: 'awaiting-turn'; readonly leave: Cancel }
  | {
      readonly t: 'sending';
      readonly frame: NextFrame;
      readonly sent: SentFrame;
      readonly next: number;
      readonly release: Release;
    }
  | { readonly t: 'in-flight'; readonly frame: NextFrame; readonly sent: SentFrame; readonly release: Release | null }
  | { readonly t: 'backing-off'; readonly stop: Cancel }
  | { readonly t: 'idle' }
  | { readonly t: 'ended' };

/**
 * One stream: the controller's side of stream.proto, without the transport.
 *
 *   1. At most one frame is unanswered. Everything committed meanwhile is one frame later.
 *   2. What is kept per node is a base, a state and the entries it refused: no queue.
 *   3. A node is sent nothing while it holds what it should.
 */
export class Session {
  readonly #link: Link;
  readonly #context: SessionContext;
  #state: State;
  #record: NodeRecord | null = null;
  #base: Base = { t: 'unknown' };
  /** What the base lacks of its version: an entry that is tried again stays here until the node has taken it. */
  #heldBack: HeldBackEntries = nothingHeldBack;
  #failures = 0;

  constructor(link: Link, context: SessionContext) {
    this.#link = link;
    this.#context = context;
    const { clock, settings } = context;
    const tooLate = () => this.#end(new StreamError('silent', `no Hello within ${settings.helloTimeoutMs} ms`));
    this.#state = { t: 'awaiting-hello', stop: clock.after(settings.helloTimeoutMs, tooLate) };
  }

  get record(): NodeRecord | null {
    return this.#record;
  }

  get isWaitingForInputs(): boolean {
    return this.#state.t === 'awaiting-inputs';
  }

  received(bytes: Buffer): void {
    if (this.#state.t === 'ended') return;
    try {
      const request = decodeRequest(bytes);
      if (request.$case === 'hello') this.#hello(request.value);
      else if (request.$case === 'bucketDigests') this.#bucketDigests(request.value.digests);
      else if (request.$case === 'ack') this.#ack(request.value);
      else this.#nack(request.value);
    } catch (error) {
      this.#end(
        error instanceof StreamError
          ? error
          : new StreamError('internal', 'the controller failed to handle a message', { cause: error }),
      );
    }
  }

  /** There is something new, or the controller came in sync. Costs nothing where nothing is owed. */
  pump(): void {
    if (this.#state.t === 'awaiting-inputs') this.#resume(this.#state);
    else if (this.#state.t === 'idle') this.#next();
  }

  /** The peer has read what was written. */
  drained(): void {
    if (this.#state.t === 'sending') this.#sendParts(this.#state);
    else if (this.#state.t === 'in-flight') this.#state.release?.();
  }

  /** NodeState changed. */
  tellState(): void {
    const { t } = this.#state;
    // Before the Plan, the Plan brings it.
    if (t === 'awaiting-hello' || t === 'awaiting-inputs' || t === 'ended') return;
    this.#write(encodeNodeState(this.#context.isLeaving(this.#known().name)));
  }

  /** The transport is gone. */
  closed(): void {
    if (this.#state.t !== 'ended') this.#leave();
  }

  /** Somebody else took the name, or the controller refuses to go on. */
  abort(error: StreamError): void {
    this.#end(error);
  }

  /** Asks the node to go elsewhere, and ends. */
  move(to: string, reason: string): void {
    if (this.#state.t === 'ended') return;
    this.#link.write(encodeMove(to, reason));
    this.#end(null);
  }

  #hello(hello: Hello): void {
    const { book, clock, history, logger } = this.#context;
    if (this.#state.t !== 'awaiting-hello') throw new StreamError('out-of-sequence', 'a second Hello on one stream');
    this.#state.stop();
    const name = nodeName(hello.nodeName);
    if (!this.#link.mayBe(name))
      throw new StreamError('denied', `the certificate of ${this.#link.peer} does not name node ${name}`);
    this.#context.admit(this, name, hello);
    this.#record = book.connected(
      name,
      {
        zone: hello.zone,
        driver: hello.driver,
        release: hello.release,
        peer: this.#link.peer,
        held: hello.held ?? null,
        digest: digestFromBytes(hello.digest),
      },
      clock.nowUs(),
    );
    logger.debug({ node: name, held: hello.held, driver: hello.driver }, 'hello');
    this.#state = { t: 'awaiting-inputs', hello, lag: () => lagOf(history.inputs, hello.inputs) };
    this.pump();
  }

  #resume({ hello, lag }: State & { t: 'awaiting-inputs' }): void {
    const { book, logger } = this.#context;
    const record = this.#known();
    if (!this.#context.isOpen(record.name)) return;
    const found = lag();
    if (found === null) {
      if (hello) this.#plan(hello);
      else this.#next();
      return;
    }
    if (found.source !== null) this.#context.lagging(found.source);
    if (record.lastError === found.words) return;
    logger.warn({ node: record.name, lag: found.words }, 'this controller lags behind the node: waiting');
    book.failed(record, found.words);
  }

  #plan(hello: Hello): void {
    const { history, book, clock, logger } = this.#context;
    const record = this.#known();
    const { kind, base } = choosePlan(this.#context, record.name, hello);
    const { peer } = this.#link;
    logger.info({ node: record.name, plan: kindName(kind), held: hello.held?.sequence, peer }, 'node joined');
    this.#base = base;
    this.#sendPlan(kind);
    if (this.#context.isLeaving(record.name)) this.#write(encodeNodeState(true));
    if (kind === Plan_Kind.BUCKET_REPAIR) return;
    const digest = digestFromBytes(hello.digest);
    if (kind === Plan_Kind.UP_TO_DATE && digest !== null)
      book.programmed(
        record,
        { sequence: history.head, digest, durations: undefined, heldBack: nothingHeldBack, frame: null },
        clock.nowUs(),
      );
    this.#next();
  }

  /** Sends what the node is owed, if anything. */
  #next(): void {
    const { gate, history, book, clock } = this.#context;
    const record = this.#known();
    this.#state = { t: 'idle' };
    if (this.#base.t === 'version' && record.owes === null && record.programmed > 0) return;
    if (this.#base.t === 'unknown') {
      this.#sendPlan(Plan_Kind.BUCKET_REPAIR);
      return;
    }
    if (this.#base.t !== 'version') {
      let entered = false;
      const leave = gate.enter((release) => {
        entered = true;
        this.#send(this.#frame(), release);
      });
      if (!entered) this.#state = { t: 'awaiting-turn', leave };
      return;
    }
    const frame = this.#frame();
    if (frame === null) {
      this.#base = { t: 'unknown' };
      this.#sendPlan(Plan_Kind.BUCKET_REPAIR);
    } else if (frame.changes?.size === 0) {
      // What was committed cancels out, or is held back: the node has this version already, under its older name. The base
      // stays, and what is held back stays with it, because the next delta starts there.
      const { digest, heldBack } = frame;
      const { durations } = record;
      book.programmed(record, { sequence: history.head, digest, durations, heldBack, frame: null }, clock.nowUs());
    } else {
      this.#send(frame, null);
    }
  }

  #frame(): NextFrame | null {
    return nextFrame(this.#context, this.#known().name, this.#base, this.#heldBack);
  }

  #send(frame: NextFrame | null, release: Release | null): void {
    if (frame === null) throw new TypeError('a repair can always be made');
    const from = this.#base.t === 'version' ? this.#base.sequence : 0;
    const sent = { from, to: frame.to, sentAtUs: this.#context.clock.nowUs() };
    this.#sendParts({ t: 'sending', frame, sent, next: 0, release: release ?? noRelease });
  }

  #sendParts({ frame, sent, next, release }: State & { t: 'sending' }): void {
    let writable = true;
    let i = next;
    for (; i < frame.messages.length && (writable || i === 0); i++) {
      const message = frame.messages[i];
      if (message) writable = this.#write(message);
    }
    if (i < frame.messages.length) {
      this.#state = { t: 'sending', frame, sent, next: i, release };
      return;
    }
    if (writable) release();
    this.#observeSent(frame);
    this.#state = { t: 'in-flight', frame: { ...frame, messages: [] }, sent, release: writable ? null : release };
  }

  #observeSent({ messages, changes }: NextFrame): void {
    const bytes = messages.reduce((sum, message) => sum + message.length, 0);
    this.#context.observer?.sent(changes ? 'delta' : 'repair', messages.length, bytes);
  }

  #sendPlan(kind: Plan_Kind): void {
    const { views, history, settings, clock, observer } = this.#context;
    observer?.planned(kindName(kind));
    const { name } = this.#known();
    this.#write(
      encodePlan({
        kind,
        head: history.headVersion,
        nodeClass: views.classOf(name),
        reconnectSpreadMs: settings.reconnectSpreadMs(),
        inputs: kind === Plan_Kind.UP_TO_DATE ? history.inputs : [],
        release: settings.release,
      }),
    );
    if (kind !== Plan_Kind.BUCKET_REPAIR) return;
    const tooLate = () => this.#end(new StreamError('silent', 'no BucketDigests after a Plan of BUCKET_REPAIR'));
    this.#state = { t: 'awaiting-buckets', stop: clock.after(settings.helloTimeoutMs, tooLate) };
  }

  #bucketDigests(digests: Buffer): void {
    if (this.#state.t !== 'awaiting-buckets')
      throw new StreamError('out-of-sequence', 'BucketDigests were not asked for');
    this.#state.stop();
    this.#base = { t: 'buckets', digests };
    this.#next();
  }

  #ack(ack: Ack): void {
    const { history, book, clock, logger } = this.#context;
    const record = this.#record;
    if (!record) throw new StreamError('out-of-sequence', 'an Ack before the Hello');
    const { frame, sent } = this.#state.t === 'in-flight' ? this.#state : noFrame;
    requireHonest(ack, history.epoch, frame?.to ?? (this.#base.t === 'version' ? this.#base.sequence : 0));
    if (!frame || ack.programmed < frame.to) return;
    const digest = digestFromBytes(ack.digest);
    this.#releaseGate();
    if (digest !== frame.digest) {
      logger.warn(
        { node: record.name, ...named(history.epoch, frame.to), digest: digest === null ? null : formatDigest(digest) },
        'acknowledged another digest than was sent: repairing',
      );
      this.#retryFrom({ t: 'unknown' }, `acknowledged ${frame.to} with a digest that is not its own`);
      return;
    }
    this.#failures = 0;
    this.#base = { t: 'version', sequence: frame.to };
    this.#heldBack = frame.heldBack;
    const { durations } = ack;
    const { to: sequence, heldBack } = frame;
    book.programmed(record, { sequence, digest, durations, heldBack, frame: sent }, clock.nowUs());
    this.#context.observer?.programmed(record.latencyUs);
    this.#next();
  }

  #nack(nack: Nack): void {
    const { history, book, logger } = this.#context;
    const record = this.#record;
    if (!record || this.#state.t !== 'in-flight') throw new StreamError('out-of-sequence', 'a Nack of nothing');
    const { frame, sent } = this.#state;
    requireCurrent(nack, history.epoch, frame.to);
    this.#releaseGate();
    const reason = reasonName(nack.reason);
    this.#context.observer?.refused(reason);
    const refused = refusedEntries(this.#context, record.name, nack, frame);
    const keys = [...refused.keys()];
    const { message } = nack;
    this.#context.frames?.refused(record, { ...sent, stage: stageName(nack.stage), reason, message, keys });
    logger.warn(
      { node: record.name, ...named(history.epoch, frame.to), reason, entries: keys, message },
      'node refused a version',
    );
    if (refused.size > 0) {
      for (const [key, { named, entry }] of refused)
        book.refused(record, key, { reason: named.reason, message: named.message || message, entry });
      this.#heldBack = new Map([...this.#heldBack, ...refused]);
      this.#next();
      return;
    }
    const words = `refused version ${frame.to}: ${reason} ${nack.message}`.trim();
    if (nack.reason === Nack_Reason.STALE_INPUT) {
      book.failed(record, words);
      const stale = history.inputs;
      const lag = { source: null, words };
      this.#state = { t: 'awaiting-inputs', hello: null, lag: () => (history.inputs === stale ? lag : null) };
      return;
    }
    this.#retryFrom(baseAfter(nack, this.#base), words);
  }

  /** At once the first time that a base turns out wrong, otherwise with back-off. */
  #retryFrom(base: Base, why: string): void {
    const { clock, settings, random, book } = this.#context;
    const wasRepair = this.#base.t !== 'version';
    this.#base = base;
    book.failed(this.#known(), why);
    if (base.t === 'unknown' && !wasRepair && this.#failures === 0) {
      this.#failures++;
      this.#next();
      return;
    }
    const limit = Math.min(settings.retryMaxMs, settings.retryBaseMs * 2 ** this.#failures++);
    const delayMs = limit * (0.5 + random() / 2);
    this.#state = { t: 'backing-off', stop: clock.after(delayMs, () => this.#next()) };
  }

  #write(message: Buffer): boolean {
    const record = this.#known();
    record.sentBytes += message.length;
    return this.#link.write(message);
  }

  #known(): NodeRecord {
    if (!this.#record) throw new TypeError('a session without a Hello has no node');
    return this.#record;
  }

  #releaseGate(): void {
    if (this.#state.t === 'in-flight') this.#state.release?.();
  }

  #end(error: StreamError | null): void {
    if (this.#state.t === 'ended') return;
    if (error) {
      this.#context.observer?.ended(error.code);
      this.#context.logger.warn(
        { node: this.#record?.name, peer: this.#link.peer, code: error.code, err: error },
        'ending a stream',
      );
    }
    this.#leave();
    this.#link.end(error);
  }

  #leave(): void {
    const state = this.#state;
    this.#state = { t: 'ended' };
    if ('stop' in state) state.stop();
    if ('leave' in state) state.leave();
    if ('release' in state) state.release?.();
    this.#context.left(this);
  }
}

const noRelease: Release = () => undefined;
const noFrame = { frame: null, sent: null };
