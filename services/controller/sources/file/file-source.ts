import { readdir, realpath, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { ObjectId } from '@octoplane/model/project.ts';
import type { Logger } from 'pino';
import { type Clock, systemClock } from '../../clock.ts';
import type { LossGuardOptions } from '../loss-guard.ts';
import { LossHold } from '../loss-hold.ts';
import type { Source, SourceEvent } from '../source.ts';
import { Wake } from '../wake.ts';
import { exists, forEach, requireDirectory } from './directory.ts';
import { DirectoryState } from './directory-state.ts';
import { DirectoryWatch, errnoOf, filePath, isMissing } from './directory-watch.ts';
import { readManifestFile } from './manifest-file.ts';
import { type FileStamp, readStableFile } from './read-file.ts';
import { clockTickUs, RevisionClaim } from './revision-claim.ts';

export interface FileSourceOptions {
  /** Of the cluster. */
  readonly name: string;
  readonly directory: string;
  readonly logger: Logger;
  readonly clock?: Clock;
  /**
   * A file that is written in place is read once it has been quiet for so long. Default 20 ms: a writer's next piece comes sooner. A
   * file that is put in place by rename is whole, and is read at once.
   */
  readonly settleMs?: number;
  /** What is taken for an accident. */
  readonly lossGuard?: LossGuardOptions;
}

/** Files read at the same time: enough to hide the disk, few enough to keep memory low. */
const concurrency = 16;

/** Lines in the log for one reading of a file. */
const maxRemarks = 50;

/** Events in one go after which everything is looked at: half of what the kernel queues. */
const maxBurst = 8192;

/**
 * A directory of manifests.
 *
 *   1. Files whose names end in .yaml, .yml or .json and do not begin with "." are read, in the order of their names; directories in it are not.
 *      Symbolic links are followed, and "..data" is understood, as ConfigMap volumes use it. A change behind any other link to the outside
 *      is not noticed before the link itself, or the directory, changes.
 *   2. A change is found by inotify. Only files whose stamp changed are read, and only documents whose text changed are parsed.
 *   3. A deleted directory leaves everything as it was, as stale, until it is back. Most of it gone at once is held back first (loss-guard.ts).
 *   4. `revision` is the newest change time of the directory and its files up to which everything has been read, in microseconds;
 *      `incarnation` is its real path. It never decreases, over restarts too, as long as the machine's clock does not. A change is
 *      told at once, and vouched for a clock tick later.
 */
export class FileSource implements Source {
  readonly name: string;
  readonly location: string;
  readonly #directory: string;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #settleMs: number;
  readonly #hold: LossHold;
  readonly #state = new DirectoryState();
  readonly #stamps = new Map<string, FileStamp>();
  readonly #wake = new Wake();
  /** Names to look at in the next round. */
  readonly #dirty = new Set<string>();
  readonly #settling = new Map<string, { readonly cancel: () => void; readonly sinceUs: number }>();
  readonly #claim = new RevisionClaim();
  /** What changed before this was read in the last round, or is settling. */
  #barrierUs = 0;
  #claimLater: (() => void) | null = null;
  #everything = true;
  /** Events since the last round: the kernel drops what does not fit its queue of 16,384, without a word from libuv. */
  #burst = 0;
  /** Names that were gone at the last look. */
  readonly #vanished = new Set<string>();
  /** Why nothing can be read, or null. */
  #absent: string | null = null;
  #told: string | null = null;
  #incarnation = '';
  #vouched = 0;
  #synced = false;

  constructor(options: FileSourceOptions) {
    this.name = options.name;
    this.#directory = resolve(options.directory);
    this.location = `file:${this.#directory}`;
    this.#logger = options.logger.child({ source: options.name });
    this.#clock = options.clock ?? systemClock;
    this.#settleMs = options.settleMs ?? 20;
    this.#hold = new LossHold(options.lossGuard ?? {}, this.#clock, () => this.#wake.ring());
  }

  async run(emit: (events: readonly SourceEvent[]) => void, signal: AbortSignal): Promise<void> {
    await requireDirectory(this.#directory);
    const watch = new DirectoryWatch(this.#directory, {
      named: (name) => this.#look(name),
      written: (name) => this.#lookWhenQuiet(name),
      everything: () => {
        this.#everything = true;
        this.#wake.ring();
      },
    });
    this.#wake.ring();
    try {
      for (;;) {
        await this.#wake.heard(signal);
        if (signal.aborted) return;
        const barrierUs = Date.now() * 1000;
        await eventsDelivered();
        // Taken before the watch is opened again: what comes up from here on is for the next round.
        const everything = this.#everything;
        this.#everything = false;
        if (everything) await watch.open();
        const events = await this.#round(barrierUs, everything);
        if (signal.aborted) return;
        if (events.length > 0) emit(events);
      }
    } finally {
      watch.close();
      for (const { cancel } of this.#settling.values()) cancel();
      this.#claimLater?.();
      this.#hold.close();
    }
  }

  #look(name: string): void {
    this.#burst++;
    if (!isManifest(name)) return;
    this.#settling.get(name)?.cancel();
    this.#settling.delete(name);
    this.#dirty.add(name);
    this.#wake.ring();
  }

  #lookWhenQuiet(name: string): void {
    this.#burst++;
    if (!isManifest(name)) return;
    const before = this.#settling.get(name);
    before?.cancel();
    this.#settling.set(name, {
      cancel: this.#clock.after(this.#settleMs, () => this.#look(name)),
      sinceUs: before?.sinceUs ?? this.#barrierUs,
    });
  }

  /** Reads what may have changed and says what did. */
  async #round(barrierUs: number, lookAtAll: boolean): Promise<readonly SourceEvent[]> {
    const names = await this.#namesToRead(lookAtAll);
    if (names === null) return this.#condition([]);
    await forEach(names, concurrency, (name) => this.#readFile(name));
    await this.#noteDirectory();
    this.#vouch(barrierUs);
    const held = this.#hold.reason;
    const diff = this.#state.take(this.#hold.judge(this.#state.told, this.#state.missing()));
    if (held !== null && this.#hold.reason === null && diff.removed.length > 0)
      this.#logger.warn(`${diff.removed.length} objects stayed away and are removed`);
    const observedAtUs = this.#clock.nowUs();
    const events: SourceEvent[] = [];
    for (const object of diff.upserted) events.push({ t: 'upserted', object, observedAtUs });
    for (const id of diff.removed) events.push(this.#removal(id, observedAtUs));
    for (const rejection of diff.rejected) {
      this.#logger.warn({ object: rejection.object, location: rejection.location }, rejection.reason);
      events.push({ t: 'rejected', rejection, observedAtUs });
    }
    for (const place of diff.cleared) events.push({ t: 'cleared', place });
    return this.#condition(events);
  }

  /** Null: the directory is not there, or not to be read. */
  async #namesToRead(lookAtAll: boolean): Promise<readonly string[] | null> {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    const everything = lookAtAll || this.#absent !== null || this.#burst > maxBurst;
    this.#burst = 0;
    if (!everything) return dirty;
    this.#absent = null;
    try {
      this.#incarnation = await realpath(this.#directory);
      const present = await readdir(this.#directory);
      return [...new Set([...present, ...this.#state.fileNames, ...dirty])].filter(isManifest);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === '') throw error;
      const what = isMissing(error)
        ? 'is gone; create it again'
        : errno === 'EACCES'
          ? 'may not be read; give the controller read permission'
          : `cannot be read (${errno}); check the file system`;
      this.#absent = `${this.#directory} ${what}; what it said is kept`;
      return null;
    }
  }

  /** Ends a round with what the source says of itself. */
  #condition(events: readonly SourceEvent[]): readonly SourceEvent[] {
    const before = this.#told;
    const reason = this.#absent ?? this.#hold.reason;
    const observedAtUs = this.#clock.nowUs();
    this.#told = reason;
    if (reason !== null) {
      if (reason === before) return events;
      this.#logger.warn(reason);
      return [...events, { t: 'stale', reason, observedAtUs }];
    }
    if (before !== null) this.#logger.info('the source is in sync again');
    else if (events.length === 0 && this.#synced && this.#vouched === this.#claim.revision) return [];
    this.#synced = true;
    this.#vouched = this.#claim.revision;
    return [...events, { t: 'synced', incarnation: this.#incarnation, revision: this.#vouched, observedAtUs }];
  }

  async #readFile(name: string): Promise<void> {
    const path = filePath(this.#directory, name);
    const reading = await readStableFile(path, this.#stamps.get(name) ?? null);
    if (reading.t !== 'missing') this.#vanished.delete(name);
    switch (reading.t) {
      case 'unchanged':
        return;
      case 'torn':
        this.#lookWhenQuiet(name);
        return;
      case 'missing':
        await this.#vanish(name);
        return;
      case 'no-file':
        this.#stamps.delete(name);
        this.#state.put(name, null);
        return;
      case 'refused':
        this.#stamps.delete(name);
        this.#state.reject(name, [{ place: name, object: name, location: name, reason: reading.reason }]);
        return;
      case 'text': {
        this.#stamps.set(name, reading.stamp);
        this.#noteChange(reading.stamp.ctimeNs);
        const mtimeUs = Number(reading.stamp.mtimeNs / 1000n);
        const file = readManifestFile(name, reading.text, mtimeUs, this.#state.file(name));
        this.#state.put(name, file);
        this.#remark(file.remarks);
      }
    }
  }

  /** A dump of a whole cluster has thousands of foreign objects, and a template one mistake in all of them. */
  #remark(remarks: readonly string[]): void {
    for (const remark of remarks.slice(0, maxRemarks)) this.#logger.warn(remark);
    const rest = remarks.length - maxRemarks;
    if (rest > 0) this.#logger.warn(`and ${rest} more remarks of this file`);
  }

  /**
   * A file that is gone at two looks in a row is gone. In between, an editor has put its new version in place, and the end of the directory
   * (rm -r takes the files first) shows itself as such.
   */
  async #vanish(name: string): Promise<void> {
    if (this.#state.file(name) !== null && !this.#vanished.delete(name)) {
      this.#vanished.add(name);
      this.#lookWhenQuiet(name);
      return;
    }
    if (!(await exists(this.#directory))) {
      this.#everything = true;
      this.#wake.ring();
      return;
    }
    this.#stamps.delete(name);
    this.#state.put(name, null);
  }

  #removal(id: ObjectId, observedAtUs: number): SourceEvent {
    return {
      t: 'removed',
      id,
      revision: String(this.#claim.newestUnclaimed || this.#claim.revision),
      changedAtUs: null,
      observedAtUs,
    };
  }

  async #noteDirectory(): Promise<void> {
    try {
      this.#noteChange((await stat(this.#directory, { bigint: true })).ctimeNs);
    } catch (error) {
      // Gone since it was read: its own event follows.
      if (!isMissing(error)) throw error;
    }
  }

  #noteChange(ctimeNs: bigint): void {
    this.#claim.seen(Number(ctimeNs / 1000n));
  }

  /** What changed before the barrier has been read, except what is still being written. The rest is vouched for when its tick is over. */
  #vouch(barrierUs: number): void {
    const settling = Array.from(this.#settling.values(), ({ sinceUs }) => sinceUs);
    this.#claim.claim(Math.min(barrierUs, ...settling) - clockTickUs);
    this.#barrierUs = barrierUs;
    this.#claimLater?.();
    const newest = this.#claim.newestUnclaimed;
    if (newest === 0) return;
    const readyInMs = Math.ceil((newest + clockTickUs - Date.now() * 1000) / 1000) + 1;
    this.#claimLater = this.#clock.after(Math.max(1, readyInMs), () => this.#wake.ring());
  }
}

/** inotify queues an event before the change returns to who made it, so one poll of the event loop brings all of them. */
async function eventsDelivered(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

const isManifest = (name: string): boolean => /^[^.].*\.(?:ya?ml|json)$/.test(name);
