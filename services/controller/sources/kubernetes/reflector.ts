import type { Fields } from '@octoplane/model/findings.ts';
import type { Logger } from 'pino';
import type { Clock } from '../../clock.ts';
import { Backoff } from '../backoff.ts';
import type { KubeClient } from './kube-client.ts';
import { KubeError } from './kube-error.ts';
import { listAll, newestRevision } from './list-pages.ts';
import { type WatchEvent, watchOnce } from './watch-events.ts';

export interface ReflectorOptions<T> {
  readonly client: KubeClient;
  readonly path: string;
  readonly labelSelector?: string;
  /** Reads an object as it arrives; the manifest itself is not kept. */
  readonly read: (manifest: Fields, change: 'put' | 'removed') => T;
  readonly sink: ReflectorSink<T>;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Is the initial state asked for as a stream first? Default true; a server that refuses is asked for pages from then on. */
  readonly streaming?: boolean;
  readonly pageSize?: number;
  /** A watch without a word for so long is opened anew. Default 90 s: servers send a bookmark a minute. */
  readonly silentMs?: number;
  /** Called before everything is listed, and before a watch goes on after the server was lost. It may ask for a list. */
  readonly beforeList?: (signal: AbortSignal) => Promise<void>;
}

export interface ReflectorSink<T> {
  /** All there is. What is not among the items is gone. */
  replaced(items: readonly T[], revision: number): void;
  /** Changes in their order; `revision`: of the last one. */
  changed(items: readonly T[], revision: number): void;
  /** Nothing changed up to the revision. */
  reached(revision: number): void;
  /** The server is not heard any more, or again (null). What was told stays. */
  lost(error: KubeError | null): void;
}

/**
 * Keeps a picture of one collection of an API server.
 *
 *   1. Listed once, as a stream or in pages, and watched from there; after an interruption the watch goes on behind the last event, so that none is
 *      lost, and what was told already is not told again.
 *   2. Where that is not possible any more (410, as a status or as an event, or a server that went back) everything is listed again and
 *      given to `replaced`.
 *   3. An end in order, or a watch that breaks, is no loss until it cannot be opened again. Errors are tried again with jitter, no sooner than
 *      the server asks for.
 *   4. A server that was lost is asked how far it is before a watch goes on, because one that was restored from a backup would say nothing.
 */
export class Reflector<T> {
  readonly #options: ReflectorOptions<T>;
  readonly #query: Readonly<Record<string, string>>;
  readonly #backoff: Backoff;
  #streaming: boolean;
  /** Everything up to it was given to the sink. Null: list first. */
  #position: number | null = null;
  /** Ends the watch, for a list. */
  #again: AbortController | null = null;
  #lost = false;
  /** Watches in a row that were opened and broke without having said anything. */
  #fruitless = 0;
  /** Times in a row that the server had not come as far as we have. */
  #ahead = 0;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#query = options.labelSelector === undefined ? {} : { labelSelector: options.labelSelector };
    this.#backoff = new Backoff(options.clock);
    this.#streaming = options.streaming ?? true;
  }

  /** Until the signal aborts. @throws what `read` and the sink throw, and nothing else */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#follow(signal);
        // A server that ends watches at once is not asked in a loop.
        await this.#backoff.wait(signal);
      } catch (error) {
        if (signal.aborted) return;
        const failure = kubeErrorOf(error, this.#options.path);
        if (failure === null) throw error;
        await this.#bear(failure, signal);
      }
    }
  }

  /** Lists everything again, as soon as may be. */
  relist(): void {
    this.#position = null;
    this.#again?.abort();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const again = new AbortController();
    this.#again = again;
    const either = AbortSignal.any([signal, again.signal]);
    try {
      if (this.#lost && this.#position !== null) await this.#recognize(this.#position, either);
      if (this.#position === null) {
        await this.#options.beforeList?.(either);
        if (!this.#streaming) await this.#list(either);
      }
      await this.#watch(either);
    } catch (error) {
      if (!again.signal.aborted || signal.aborted) throw error;
    } finally {
      this.#again = null;
    }
  }

  /**
   * Is it the server that was lost, and has it all that it had? A watch from a revision that is yet to come is silent until then, and one from
   * another cluster's revision goes on with what is not ours.
   */
  async #recognize(position: number, signal: AbortSignal): Promise<void> {
    const { client, path, beforeList } = this.#options;
    await beforeList?.(signal);
    if ((await newestRevision(client, { path, query: this.#query }, signal)) < position) this.#position = null;
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { client, path, pageSize, read, sink } = this.#options;
    let items: T[] = [];
    const revision = await listAll(
      client,
      { path, query: this.#query, ...(pageSize === undefined ? {} : { pageSize }) },
      {
        begin: () => {
          items = [];
        },
        item: (json) => items.push(read(JSON.parse(json.toString('utf8')) as Fields, 'put')),
      },
      signal,
    );
    this.#position = revision;
    sink.replaced(items, revision);
    this.#heard();
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { client, path, clock, silentMs = 90_000 } = this.#options;
    /** Of the initial state, until it is complete. */
    let initial: T[] | null = this.#position === null ? [] : null;
    let openedAtUs: number | null = null;
    try {
      await watchOnce(
        client,
        {
          path,
          query: this.#query,
          from: this.#position,
          // Apart, so that replicas and collections do not come back together.
          timeoutSeconds: Math.round(300 + Math.random() * 300),
          silentMs,
          onOpen: () => {
            openedAtUs = clock.nowUs();
            this.#ahead = 0;
            if (initial === null) this.#heard();
          },
          onEvents: (events) => {
            // A list does not count: lists that lead to nothing are to become rare.
            if (initial === null) this.#fruitful();
            initial = initial === null ? this.#take(events) : this.#collect(events, initial);
          },
        },
        signal,
      );
    } catch (error) {
      if (openedAtUs === null || initial !== null || !isBroken(error)) throw error;
      // It was open, so it can be opened again: that is tried first.
      if (this.#fruitless++ > 0) throw error;
    } finally {
      if (openedAtUs !== null && clock.nowUs() - openedAtUs > steadyUs) this.#fruitful();
    }
    if (initial !== null)
      throw new KubeError('PROTOCOL', `the watch of ${path} ended before the initial state was complete`);
  }

  /** Events of the initial state; what follows it is taken. */
  #collect(events: readonly WatchEvent[], items: T[]): T[] | null {
    const { read, sink } = this.#options;
    for (let i = 0; i < events.length; i++) {
      const event = events[i];
      if (!event) continue;
      if (event.t !== 'bookmark') items.push(read(event.object, event.t));
      else if (event.initial) {
        this.#position = event.revision;
        sink.replaced(items, event.revision);
        this.#heard();
        return this.#take(events.slice(i + 1));
      }
    }
    return items;
  }

  #take(events: readonly WatchEvent[]): null {
    // The sink wants all of it again: what comes now is in that.
    if (this.#again?.signal.aborted) return null;
    const { read, sink } = this.#options;
    const items: T[] = [];
    let position = this.#position ?? 0;
    let changedAt = position;
    for (const event of events) {
      // A server may send again what came before a broken connection; nothing is told twice.
      if (event.revision !== null && event.revision <= position) continue;
      position = event.revision ?? position;
      if (event.t === 'bookmark') continue;
      items.push(read(event.object, event.t));
      changedAt = position;
    }
    this.#position = position;
    if (items.length > 0) sink.changed(items, changedAt);
    if (position > changedAt) sink.reached(position);
    return null;
  }

  /** It has said something: the next failure is the first one. */
  #fruitful(): void {
    this.#fruitless = 0;
    this.#backoff.reset();
  }

  #heard(): void {
    if (!this.#lost) return;
    this.#lost = false;
    this.#options.sink.lost(null);
  }

  async #bear(error: KubeError, signal: AbortSignal): Promise<void> {
    const { logger, sink, path } = this.#options;
    if (this.#position === null) {
      if (error.code === 'REFUSED' && this.#streaming) {
        logger.info({ path, reason: error.message }, 'the server streams no lists: pages are asked for');
        this.#streaming = false;
        return;
      }
    } else if (error.code === 'GONE' || (error.code === 'AHEAD' && ++this.#ahead > 1)) {
      logger.info({ path, reason: error.message }, 'everything is listed again');
      this.#position = null;
      this.#ahead = 0;
      await this.#backoff.wait(signal);
      return;
    }
    this.#lost = true;
    sink.lost(error);
    await this.#backoff.wait(signal, error.retryAfterMs ?? 0);
  }
}

/** A watch that lasted longer was a good one, even if nothing happened. */
const steadyUs = 10_000_000;

const isBroken = (error: unknown): boolean =>
  error instanceof KubeError && (error.code === 'UNREACHABLE' || error.code === 'SILENT' || error.code === 'SERVER');

/** Null: it is a bug, and no failure of the server. */
function kubeErrorOf(error: unknown, path: string): KubeError | null {
  if (error instanceof KubeError) return error;
  if (!(error instanceof SyntaxError)) return null;
  return new KubeError('PROTOCOL', `${path} was answered with something that is not JSON (${error.message})`, {
    cause: error,
  });
}
