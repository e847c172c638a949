import koffi from 'koffi';

/** What the daemon itself asks of libc; netlink has its own list. */
const libc = koffi.load('libc.so.6');

/** malloc_trim(3): gives free heap pages back to the system; 1 when there were any. */
export const mallocTrim: (pad: number) => number = libc.func('int malloc_trim(size_t pad)');
