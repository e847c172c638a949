import {
  type Event,
  Event_EventType,
  type KeyValue,
  PutRequest,
  RangeRequest,
} from '@octoplane/model/gen/etcd/etcdserverpb/rpc.ts';
import type { Logger } from 'pino';
import { type Clock, systemClock } from '../../clock.ts';
import { Backoff } from '../backoff.ts';
import type { LossGuardOptions } from '../loss-guard.ts';
import { Narrator, type Reading } from '../narrator.ts';
import { type Source, SourceError, type SourceEvent } from '../source.ts';
import { type Endpoint, formatEndpoints, parseEndpoints } from './endpoints.ts';
import { type EtcdClient, headerOf } from './etcd-client.ts';
import { EtcdError } from './etcd-error.ts';
import { catchUpKey, isObjectKey, prefixEnd, root } from './layout.ts';
import { type ListedAt, listRange } from './list-range.ts';
import { EtcdMembers, type EtcdTlsFiles } from './members.ts';
import { readValue } from './read-value.ts';
import { watchRange } from './watch-stream.ts';

export interface EtcdSourceOptions {
  /** Of the cluster. */
  readonly name: string;
  /** "http://HOST:2379", members with commas between them. */
  readonly urls: string;
  readonly tls?: EtcdTlsFiles;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** How often a member is asked whether it is still there. Default 5 s: a few bytes, and noticed before people notice. */
  readonly progressMs?: number;
  /** Silent for so long, a member is left for another. Default 15 s: three questions unanswered. */
  readonly stallMs?: number;
  /** What is taken for an accident when the keys are listed again. */
  readonly lossGuard?: LossGuardOptions;
}

type Emit = (events: readonly SourceEvent[]) => void;

/** Where the watch is: everything up to `revision` has been told. */
interface Position {
  readonly clusterId: string;
  readonly incarnation: string;
  readonly revision: number;
}

const range = { key: Buffer.from(root), rangeEnd: prefixEnd(Buffer.from(root)) };

/**
 * The keys of layout.ts in an etcd cluster, listed once and watched from there.
 *
 *   1. After any interruption the watch goes on behind the last event that was told, so that none is lost and none is told twice.
 *   2. Where that revision is compacted away, everything is listed again, and the difference is told at once.
 *   3. A member that fails, loses its leader or falls silent is left for the next one, with jitter; meanwhile the source is stale.
 *   4. What was deleted key by key is gone at once, by a lease too. What is missing from a list after an interruption is held back first
 *      when it is most of what there was (loss-guard.ts).
 *   5. `revision` is etcd's; `incarnation` is the cluster's id. Where the revision went back (restored from a backup under the same id)
 *      the incarnation gets a suffix, and everything is listed again.
 *   6. Two replicas in one state may vouch for different revisions of it: etcd counts the keys of others too, and a watch is told of them once
 *      in ten minutes. `catchUp` writes a key of its own and waits for it on the watch: all that came before has come by then.
 */
export class EtcdSource implements Source {
  readonly name: string;
  readonly location: string;
  readonly #members: EtcdMembers;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #progressMs: number;
  readonly #stallMs: number;
  readonly #narrator: Narrator;
  #position: Position | null = null;
  #mustList = false;
  #watching = false;
  #emit: Emit = () => undefined;
  #catchingUp: Promise<void> | null = null;

  /** @throws SourceError UNSUPPORTED */
  constructor(options: EtcdSourceOptions) {
    this.name = options.name;
    const endpoints = endpointsOf(options.urls);
    this.#members = new EtcdMembers(endpoints, options.tls);
    this.location = `etcd:${formatEndpoints(endpoints)}`;
    this.#logger = options.logger.child({ source: options.name });
    this.#clock = options.clock ?? systemClock;
    this.#progressMs = options.progressMs ?? 5_000;
    this.#stallMs = options.stallMs ?? 15_000;
    this.#narrator = new Narrator({
      logger: this.#logger,
      clock: this.#clock,
      lossGuard: options.lossGuard ?? {},
      onHoldOver: () => {
        if (this.#watching) this.#tell(this.#narrator.letGo());
      },
    });
  }

  async run(emit: Emit, signal: AbortSignal): Promise<void> {
    this.#emit = emit;
    const backoff = new Backoff(this.#clock);
    try {
      for (let turn = 0; !signal.aborted; turn++) {
        try {
          using client = this.#members.connect(turn);
          await this.#follow(client, () => backoff.reset(), signal);
        } catch (error) {
          if (!(error instanceof EtcdError)) throw error;
          if (signal.aborted) return;
          if (error.code === 'COMPACTED') {
            this.#logger.info({ reason: error.message }, 'the keys are listed again');
            this.#mustList = true;
            turn--;
          } else this.#tell([], error.message);
        } finally {
          this.#watching = false;
        }
        await backoff.wait(signal);
      }
    } finally {
      this.#narrator.close();
    }
  }

  /** At most one write a second, however many nodes wait. */
  catchUp(): void {
    if (!this.#watching) return;
    this.#catchingUp ??= this.#writeMark().then(() => {
      this.#clock.after(1_000, () => {
        this.#catchingUp = null;
      });
    });
  }

  async #writeMark(): Promise<void> {
    const put = {
      key: Buffer.from(catchUpKey),
      value: Buffer.from(new Date(this.#clock.nowUs() / 1000).toISOString()),
    };
    try {
      await this.#members.use((client) => client.put(PutRequest.create(put), new AbortController().signal));
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      this.#logger.warn({ reason: error.message }, `${catchUpKey} cannot be written: nodes wait for the next change`);
    }
  }

  /** Lists if need be, then watches until something fails. */
  async #follow(client: EtcdClient, onCreated: () => void, signal: AbortSignal): Promise<never> {
    if (!(await this.#canResume(client, signal))) this.#tell(await this.#list(client, signal));
    return watchRange(
      client,
      {
        ...range,
        from: (this.#position?.revision ?? 0) + 1,
        clock: this.#clock,
        progressMs: this.#progressMs,
        stallMs: this.#stallMs,
        onCreated: () => {
          this.#watching = true;
          onCreated();
          const events = this.#narrator.letGo();
          if (events.length > 0 || this.#narrator.isStale) this.#tell(events);
        },
        onEvents: (events) => this.#tell(this.#take(events)),
        onProgress: (revision) => {
          this.#advance(revision);
          this.#tell([]);
        },
      },
      signal,
    );
  }

  /**
   * Is it the cluster that was watched, and has it not forgotten? A linearizable read, so a member that lags does not look restored.
   * What is compacted is asked for beforehand, because a watch says so only after it has been created.
   */
  async #canResume(client: EtcdClient, signal: AbortSignal): Promise<boolean> {
    const position = this.#position;
    if (position === null || this.#mustList) return false;
    const request = RangeRequest.create({ key: range.key, keysOnly: true });
    if (!continues(position, headerOf(await client.range(request, signal)))) return false;
    try {
      await client.range({ ...request, revision: position.revision }, signal);
      return true;
    } catch (error) {
      if (error instanceof EtcdError && error.code === 'COMPACTED') return false;
      throw error;
    }
  }

  /** Reads all keys at one revision and answers with the difference to what was told; nothing is taken of a list that fails. */
  async #list(client: EtcdClient, signal: AbortSignal): Promise<readonly SourceEvent[]> {
    const before = this.#position;
    const changed: Reading[] = [];
    const present = new Set<string>();
    const at = await listRange(
      client,
      range,
      (kv, listedAt) => {
        const key = kv.key.toString('utf8');
        if (!isObjectKey(key)) return;
        present.add(key);
        const unchanged = this.#narrator.table.revisionOf(key) === kv.modRevision && continues(before, listedAt);
        if (!unchanged) changed.push(readingOf(key, kv));
      },
      signal,
    );
    this.#position = this.#positionAt(at);
    this.#mustList = false;
    const events = this.#narrator.put(changed);
    this.#narrator.listed(present, () => true, at.revision);
    return [...events, ...this.#narrator.letGo()];
  }

  #positionAt({ clusterId, revision }: ListedAt): Position {
    const before = this.#position;
    if (before === null || before.clusterId !== clusterId) return { clusterId, incarnation: clusterId, revision };
    if (revision >= before.revision) return { ...before, revision };
    this.#logger.warn({ from: before.revision, to: revision }, 'the revision of etcd went back: was it restored?');
    return { clusterId, incarnation: `${clusterId}@${revision}`, revision };
  }

  /** What the events of a watch change. */
  #take(events: readonly Event[]): readonly SourceEvent[] {
    const readings: Reading[] = [];
    const removed: SourceEvent[] = [];
    for (const { type, kv } of events) {
      if (!kv) continue;
      this.#advance(kv.modRevision);
      const key = kv.key.toString('utf8');
      if (!isObjectKey(key)) continue;
      if (type === Event_EventType.DELETE) removed.push(...this.#narrator.remove(key, kv.modRevision));
      else readings.push(readingOf(key, kv));
    }
    return [...this.#narrator.put(readings), ...removed, ...this.#narrator.letGo()];
  }

  #advance(revision: number): void {
    if (this.#position !== null && revision > this.#position.revision) this.#position = { ...this.#position, revision };
  }

  /** Events, and behind them what the source says of itself. */
  #tell(events: readonly SourceEvent[], stale: string | null = null): void {
    this.#narrator.tell(events, { claim: this.#position, stale }, this.#emit);
  }
}

const readingOf = (key: string, { value, modRevision }: KeyValue): Reading => ({
  key,
  revision: modRevision,
  read: readValue(key, value, modRevision),
});

/** Is what is there now a later state of what was there? Then an equal revision of a key means an equal value. */
const continues = (before: Position | null, now: ListedAt): boolean =>
  before !== null && now.clusterId === before.clusterId && now.revision >= before.revision;

function endpointsOf(urls: string): readonly Endpoint[] {
  try {
    return parseEndpoints(urls);
  } catch (cause) {
    throw new SourceError('UNSUPPORTED', `--source etcd: ${cause instanceof Error ? cause.message : String(cause)}.`, {
      cause,
    });
  }
}
