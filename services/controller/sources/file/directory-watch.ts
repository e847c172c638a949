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
    this.close();
    const above = await nearestAbove(this.#path);
    const [next = basename(this.#path)] = relative(above, this.#path).split(sep);
    this.#watch(above, (_event, name) => {
      if (name === null || name === next) this.#events.everything();
    });
    this.#watch(this.#path, (event, name) => {
      // The watched directory's own end is reported with its own name, like that of a file in it.
      if (name === null || name === basename(this.#path) || name.startsWith('..')) this.#events.everything();
      else if (event === 'change') this.#events.written(name);
      else this.#events.named(name);
    });
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

export const isMissing = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes(errnoOf(error));

export const errnoOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';

export const filePath = (directory: string, name: string): string => join(directory, name);
