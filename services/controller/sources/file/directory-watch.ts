import { type FSWatcher, watch } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, join, relative, sep } from 'node:path';
import { SourceError } from '../source.ts';

/** What a watch reports: by name where the kernel says which file it was. */
export interface DirectoryEvents {
  /** A name in the directory came, went, or was replaced by rename. */
  named(name: string): void;
  /** A file was written in place. */
  written(name: string): void;
  /** The directory itself came, went or was replaced, or the kernel did not say what happened: look at everything. */
  everything(): void;
}

/**
 * Watches a directory through inotify, and the nearest directory above it that exists, so that its deletion, its replacement and
 * its return are seen. Begin again with `open` after `everything`: a directory of the same name may be another one.
 */
export class DirectoryWatch {
  readonly #path: string;
  readonly #events: DirectoryEvents;
  #watchers: FSWatcher[] = [];

  constructor(path: string, events: DirectoryEvents) {
    this.#path = path;
    this.#events = events;
  }

  /** Replaces what was watched before. Whatever happens after it resolves is reported. */
  async open(): Promise<void> {
    for (let before = await this.#sight(); ; ) {
      this.#watchAll(before.above);
      // A directory that came or went between the look and the watch is in no event: only an equal second look rules that out.
      const after = await this.#sight();
      if (after.above === before.above && after.inodes === before.inodes) return;
      before = after;
    }
  }

  #watchAll(above: string): void {
    this.close();
    const [next = basename(this.#path)] = relative(above, this.#path).split(sep);
    // A watched directory's own end is reported with its own name, like that of a file in it.
    this.#watch(above, (_event, name) => {
      if (name === null || name === next || name === basename(above)) this.#events.everything();
    });
    this.#watch(this.#path, (event, name) => {
      if (name === null || name === basename(this.#path) || name.startsWith('..')) this.#events.everything();
      else if (event === 'change') this.#events.written(name);
      else this.#events.named(name);
    });
  }

  /** What there is to watch, and which it is. */
  async #sight(): Promise<{ readonly above: string; readonly inodes: string }> {
    const above = await nearestAbove(this.#path);
    return { above, inodes: `${await inode(above)} ${await inode(this.#path)}` };
  }

  close(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
  }

  #watch(path: string, listener: (event: string, name: string | null) => void): void {
    try {
      const watcher = watch(path, listener);
      // A watch that dies (its directory is gone) is as good as an event.
      watcher.on('error', () => this.#events.everything());
      this.#watchers.push(watcher);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'EMFILE' || errno === 'ENOSPC')
        throw new SourceError('NO_WATCHES', `${path} cannot be watched (${errno}); raise ${limitOf[errno]}`, {
          cause: error,
        });
      // Not there, or not to be read: the reader says so, and the watch above tells when that changes.
      if (!isMissing(error) && errno !== 'EACCES' && errno !== 'ELOOP') throw error;
    }
  }
}

const limitOf = { EMFILE: 'fs.inotify.max_user_instances', ENOSPC: 'fs.inotify.max_user_watches' } as const;

/** The nearest directory above a path that exists now. */
async function nearestAbove(path: string): Promise<string> {
  for (let above = dirname(path); ; above = dirname(above)) {
    try {
      if ((await stat(above)).isDirectory() || above === dirname(above)) return above;
    } catch (error) {
      if (!isMissing(error) || above === dirname(above)) throw error;
    }
  }
}

/** Empty: not there. */
async function inode(path: string): Promise<string> {
  try {
    return String((await stat(path, { bigint: true })).ino);
  } catch (error) {
    if (!isMissing(error)) throw error;
    return '';
  }
}

export const isMissing = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes(errnoOf(error));

export const errnoOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';

export const filePath = (directory: string, name: string): string => join(directory, name);
