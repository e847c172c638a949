import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf, isMissing } from './directory-watch.ts';

/** 32 MiB: 10,000 Services of 10 endpoints as JSON are 25. Larger files stall everything else while they are parsed. */
export const maxFileBytes = 32 * 1024 * 1024;

export type FileReading =
  | { readonly t: 'text'; readonly text: string; readonly stamp: FileStamp }
  | { readonly t: 'unchanged' }
  /** It was written to while it was read. */
  | { readonly t: 'torn' }
  | { readonly t: 'missing' }
  /** A directory, a device, a pipe. */
  | { readonly t: 'no-file' }
  | { readonly t: 'refused'; readonly reason: string };

/** Tells one content of a file from another without reading it. */
export interface FileStamp {
  readonly inode: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

export const sameStamp = (a: FileStamp, b: FileStamp): boolean =>
  a.inode === b.inode && a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs;

/** `known`: the stamp of what was read before. */
export async function readStableFile(path: string, known: FileStamp | null): Promise<FileReading> {
  let handle: FileHandle;
  try {
    // Without O_NONBLOCK a named pipe would wait for its writer.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    return isMissing(error) ? { t: 'missing' } : { t: 'refused', reason: refusal(error) };
  }
  try {
    const before = await stampOf(handle);
    if (before === null) return { t: 'no-file' };
    if (known !== null && sameStamp(before, known)) return { t: 'unchanged' };
    if (before.size > BigInt(maxFileBytes)) {
      const mib = (Number(before.size) / 1048576).toFixed(1);
      return {
        t: 'refused',
        reason: `the file has ${mib} MiB; split it into files of at most ${maxFileBytes / 1048576} MiB`,
      };
    }
    const text = await handle.readFile('utf8');
    const after = await stampOf(handle);
    if (after === null || !sameStamp(before, after)) return { t: 'torn' };
    return { t: 'text', text, stamp: after };
  } catch (error) {
    return { t: 'refused', reason: refusal(error) };
  } finally {
    await handle.close();
  }
}

/** Translated once; what is no error of the file system is a bug, and goes on. */
function refusal(error: unknown): string {
  const errno = errnoOf(error);
  if (errno === '') throw error;
  if (errno === 'EACCES' || errno === 'EPERM') return 'the file may not be read; give the controller read permission';
  if (errno === 'ELOOP') return 'the link leads to itself; let it lead to a file';
  return `the file cannot be read (${errno}); check the file system`;
}

async function stampOf(handle: FileHandle): Promise<FileStamp | null> {
  const stats = await handle.stat({ bigint: true });
  if (!stats.isFile()) return null;
  return { inode: stats.ino, size: stats.size, mtimeNs: stats.mtimeNs, ctimeNs: stats.ctimeNs };
}
