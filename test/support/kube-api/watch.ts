import type { ServerResponse } from 'node:http';
import type { ListOptions } from './options.ts';
import { apiVersionOf } from './resources.ts';
import { expired, type StatusError } from './status.ts';
import { type Change, type Collection, parsed, recordOf, type Stored } from './store.ts';
import { writePieces } from './wire.ts';

type EventType = 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';

/** One open watch, and what may befall it. */
export class Watch {
  readonly collection: Collection;
  readonly #response: ServerResponse;
  readonly #namespace: string;
  readonly #options: ListOptions;
  readonly #pieceBytes: number | null;
  readonly #onClose: (watch: Watch) => void;
  readonly #timer: NodeJS.Timeout | null;
  readonly #listener = (change: Change): void => this.#tell(change);
  #silent = false;
  #isClosed = false;
  /** The state has been sent: bookmarks are true from here on. */
  #follows = false;
  #cutNext = false;
  #endNext = false;
  /** Of the events that were sent. */
  #last: Buffer | null = null;
  /** Of the events: what was sent is not sent again. */
  #sent = 0;

  constructor(
    response: ServerResponse,
    collection: Collection,
    namespace: string,
    options: ListOptions,
    pieceBytes: number | null,
    onClose: (watch: Watch) => void,
  ) {
    this.#response = response;
    this.collection = collection;
    this.#namespace = namespace;
    this.#options = options;
    this.#pieceBytes = pieceBytes;
    this.#onClose = onClose;
    const { timeoutSeconds } = options;
    this.#timer = timeoutSeconds === null ? null : setTimeout(() => this.end(), timeoutSeconds * 1000);
    response.on('close', () => this.#close());
  }

  /**
   * The state first, then what happens to it; `revision`: of the state. No faster than the client reads: a server that writes everything
   * at once needs memory for every client.
   */
  async startWithState(revision: number): Promise<void> {
    this.#open();
    const state = this.collection.all();
    for (let first = 0; first < state.length && !this.#isClosed; first += 500) {
      for (const stored of state.slice(first, first + 500))
        if (this.#selects(stored)) this.#write('ADDED', stored.json);
      if (this.#response.writableNeedDrain) await this.#drained();
    }
    this.#sent = revision;
    if (this.#options.initialEvents && this.#options.bookmarks) this.bookmark(revision, true);
    this.#follow(revision);
  }

  /** What has happened since the revision, and what happens from now on. */
  startFrom(revision: number): void {
    this.#open();
    this.#sent = revision;
    this.#follow(revision);
  }

  /** The answer is 200, and its only event an error. */
  startWithError(error: StatusError): void {
    this.#open();
    this.fail(error);
  }

  /** To those who asked for bookmarks. */
  bookmark(revision: number, initial = false): void {
    if (!this.#options.bookmarks || revision < this.#sent || (!this.#follows && !initial)) return;
    const { resource } = this.collection;
    const annotations = initial ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {};
    const metadata = { resourceVersion: String(revision), creationTimestamp: null, ...annotations };
    const object = { kind: resource.kind, apiVersion: apiVersionOf(resource), metadata };
    this.#write('BOOKMARK', Buffer.from(JSON.stringify(object)));
  }

  /** As a server does when the timeout is over, or when it shuts down. */
  end(): void {
    this.#response.end();
    this.#close();
  }

  /** An ERROR event, behind which a watch ends. */
  fail(error: StatusError): void {
    this.#write('ERROR', Buffer.from(JSON.stringify(error.toJson())));
    this.end();
  }

  /** The connection breaks at once. */
  destroy(): void {
    this.#response.destroy();
    this.#close();
  }

  /** The connection breaks in the middle of the next event. */
  cutNext(): void {
    this.#cutNext = true;
  }

  /** The connection ends in order, in the middle of the next event. */
  endNext(): void {
    this.#endNext = true;
  }

  /** Sends the last event once more. */
  repeat(): void {
    if (this.#last !== null) this.#send(this.#last);
  }

  /** Stays open, and says nothing any more. */
  silence(): void {
    this.#silent = true;
  }

  #follow(revision: number): void {
    if (this.#isClosed) return;
    const { compactedTo } = this.collection;
    if (revision < compactedTo) {
      this.fail(expired(revision, compactedTo));
      return;
    }
    this.#follows = true;
    for (const change of this.collection.changes) if (change.revision > revision) this.#tell(change);
    this.collection.listeners.add(this.#listener);
  }

  /** Or closed. */
  #drained(): Promise<void> {
    const response = this.#response;
    return new Promise((resolve) => {
      const done = (): void => {
        response.off('drain', done).off('close', done);
        resolve();
      };
      response.on('drain', done).on('close', done);
    });
  }

  #open(): void {
    this.#response.writeHead(200, { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' });
    this.#response.flushHeaders();
  }

  /** Through a selector, an object that begins to match is new, and one that ceases to is gone. */
  #tell({ revision, before, after, deleted }: Change): void {
    if (revision <= this.#sent) return;
    if (this.#namespace !== '' && after.namespace !== this.#namespace) return;
    this.#sent = revision;
    const was = before !== null && this.#selects(before);
    const is = !deleted && this.#selects(after);
    if (is) this.#write(was ? 'MODIFIED' : 'ADDED', after.json);
    else if (was) this.#write('DELETED', deleted ? after.json : lastOf(before, revision));
  }

  #selects(stored: Stored): boolean {
    return (this.#namespace === '' || stored.namespace === this.#namespace) && this.#options.selector(stored.labels);
  }

  #write(type: EventType, json: Buffer): void {
    const line = Buffer.concat([Buffer.from(`{"type":"${type}","object":`), json, Buffer.from('}\n')]);
    if (type !== 'BOOKMARK' && type !== 'ERROR') this.#last = line;
    this.#send(line);
  }

  #send(line: Buffer): void {
    if (this.#silent || this.#response.writableEnded || this.#response.destroyed) return;
    if (!this.#cutNext && !this.#endNext) {
      writePieces(this.#response, line, this.#pieceBytes);
      return;
    }
    writePieces(this.#response, line.subarray(0, line.length / 2), this.#pieceBytes);
    this.#silent = true;
    if (this.#endNext) this.end();
    else this.#response.write('', () => this.destroy());
  }

  #close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.collection.listeners.delete(this.#listener);
    this.#onClose(this);
  }
}

/** The state before, under the revision at which it ceased to match. */
function lastOf(before: Stored, revision: number): Buffer {
  const manifest = parsed(before);
  const metadata = { ...recordOf(manifest['metadata']), resourceVersion: String(revision) };
  return Buffer.from(JSON.stringify({ ...manifest, metadata }));
}
