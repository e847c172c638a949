import type { Claim, Source, SourceEvent } from '@octoplane/controller/sources/source.ts';
import type { ClusterObject } from '@octoplane/model/objects.ts';
import { formatId, idOf } from '@octoplane/model/project.ts';

/** A running source, and what it has told. */
export class SourceWatcher implements AsyncDisposable {
  readonly source: Source;
  readonly events: SourceEvent[] = [];
  readonly objects = new Map<string, ClusterObject>();
  readonly rejections = new Map<string, string>();
  stale: string | null = null;
  synced: Claim | null = null;
  readonly #stop = new AbortController();
  readonly #waiting = new Set<() => void>();
  readonly #running: Promise<void>;

  constructor(source: Source) {
    this.source = source;
    this.#running = source.run((events) => this.#take(events), this.#stop.signal);
    // A failure is the failure of whoever waits, too.
    this.#running.catch(() => this.#look());
  }

  /** Resolves when it is so; the test's own timeout says when that is too late. */
  async until(what: (watcher: this) => boolean): Promise<void> {
    const reached = new Promise<void>((resolve) => {
      const look = (): void => {
        if (!what(this)) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
      look();
    });
    await Promise.race([
      reached,
      this.#running.then(() => {
        throw new Error('the source ended');
      }),
    ]);
  }

  /** Objects told as new or changed, and as removed, from a point in `events` on. */
  changes(from: number): readonly string[] {
    return this.events.slice(from).flatMap((event) => {
      if (event.t === 'upserted') return [`+ ${formatId(idOf(event.object))}`];
      return event.t === 'removed' ? [`- ${formatId(event.id)}`] : [];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #take(events: readonly SourceEvent[]): void {
    for (const event of events) {
      this.events.push(event);
      switch (event.t) {
        case 'upserted':
          this.objects.set(formatId(idOf(event.object)), event.object);
          break;
        case 'removed':
          this.objects.delete(formatId(event.id));
          break;
        case 'synced':
          this.synced = event;
          this.stale = null;
          break;
        case 'stale':
          this.stale = event.reason;
          break;
        case 'rejected':
          this.rejections.set(event.rejection.place, event.rejection.reason);
          break;
        case 'cleared':
          this.rejections.delete(event.place);
      }
    }
    this.#look();
  }

  #look(): void {
    for (const look of this.#waiting) look();
  }
}
