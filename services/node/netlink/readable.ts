import { constants } from 'node:os';
import { NetlinkError } from './errors.ts';
import * as libc from './libc.ts';

const F_GETFL = 3;
const F_SETFL = 4;
const F_SETOWN = 8;
const O_ASYNC = 0o20000;

const readers = new Set<() => void>();

/**
 * Calls back whenever the non-blocking descriptor has become readable, until the signal aborts; the callback reads until there is nothing
 * left. Only on the main thread.
 *
 * Node watches no descriptors but those it opened itself, so the kernel is asked to raise SIGIO (fcntl(2), O_ASYNC). The
 * alternatives are a thread that blocks in poll() for ever, which keeps the process from ending, and polling. The handler
 * is in place before the first SIGIO can come, since that would end the process otherwise, and stays until the last reader has left.
 */
export function onReadable(fd: number, signal: AbortSignal, read: () => void): void {
  if (signal.aborted) return;
  if (readers.size === 0) process.on('SIGIO', readAll);
  readers.add(read);
  const flags = libc.fcntl(fd, F_GETFL, 0);
  if (flags < 0 || libc.fcntl(fd, F_SETOWN, process.pid) < 0 || libc.fcntl(fd, F_SETFL, flags | O_ASYNC) < 0) {
    const errno = libc.errno();
    forget(read);
    throw new NetlinkError('ask for SIGIO on a descriptor', errno || constants.errno.EBADF);
  }
  signal.addEventListener(
    'abort',
    () => {
      libc.fcntl(fd, F_SETFL, flags);
      forget(read);
    },
    { once: true },
  );
  // What came before O_ASYNC was set raises no signal.
  queueMicrotask(() => {
    if (readers.has(read)) read();
  });
}

/** One pending SIGIO may stand for several descriptors. */
function readAll(): void {
  for (const read of [...readers]) read();
}

function forget(read: () => void): void {
  readers.delete(read);
  // A SIGIO raised before may still be on its way: the handler leaves in a later turn of the event loop.
  setImmediate(() => {
    if (readers.size === 0) process.off('SIGIO', readAll);
  });
}
