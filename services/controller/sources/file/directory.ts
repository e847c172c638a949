import { stat } from 'node:fs/promises';
import { SourceError } from '../source.ts';
import { errnoOf, isMissing } from './directory-watch.ts';

/** @throws SourceError: at the start a directory that is not there is a mistake, later it is an outage. */
export async function requireDirectory(directory: string): Promise<void> {
  try {
    if ((await stat(directory)).isDirectory()) return;
  } catch (cause) {
    if (isMissing(cause))
      throw new SourceError('DIRECTORY_MISSING', `the source directory ${directory} does not exist; create it`, {
        cause,
      });
    if (errnoOf(cause) === 'EACCES')
      throw new SourceError('PERMISSION_DENIED', `${directory} may not be read; give the controller read permission`, {
        cause,
      });
    throw cause;
  }
  throw new SourceError(
    'NOT_A_DIRECTORY',
    `${directory} is not a directory; name the directory that holds the manifests`,
  );
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** Runs `work` for every item, `width` at a time. */
export async function forEach<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  const lane = async (): Promise<void> => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane));
}
