import { checked, KernelError } from './kernel-error.ts';
import { libbpf } from './libbpf.ts';

/** All that an iterator program writes; `link`: where it is attached. */
export function readIterator(link: number): Buffer {
  const bpf = libbpf();
  const iterator = checked(bpf.createIterator(link), 'starting to walk sockets');
  const chunks: Buffer[] = [];
  const chunk = Buffer.alloc(64 * 1024);
  try {
    for (;;) {
      const length = bpf.read(iterator, chunk, chunk.length);
      if (length < 0) {
        const errno = bpf.errno();
        if (errno === EAGAIN || errno === EINTR) continue;
        throw new KernelError('walking sockets', errno);
      }
      if (length === 0) return Buffer.concat(chunks);
      chunks.push(Buffer.from(chunk.subarray(0, length)));
    }
  } finally {
    bpf.closeFd(iterator);
  }
}

const EAGAIN = 11;
const EINTR = 4;
