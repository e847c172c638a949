import { checked, KernelError } from './kernel-error.ts';
import { libbpf } from './libbpf.ts';
import { attachTypes, Link } from './links.ts';
import type { LoadedObject } from './object.ts';

const hooks = [
  'connect4',
  'connect6',
  'sendmsg4',
  'sendmsg6',
  'recvmsg4',
  'recvmsg6',
  'peername4',
  'peername6',
  'bind4',
  'bind6',
] as const;

/** The links of the socket programs, for the sockets of one cgroup and those below it. */
export const socketLinks = (object: LoadedObject, directory: string, cgroupPath: string): readonly Link[] =>
  hooks.map(
    (hook) =>
      new Link({ directory, name: hook }, object.programFd(`octo_${hook}`), attachTypes[hook], {
        t: 'cgroup',
        path: cgroupPath,
      }),
  );

/** SO_NETNS_COOKIE (Linux 5.14) of the namespace that this process is in. */
export function netnsCookie(): bigint {
  const bpf = libbpf();
  // AF_INET, SOCK_DGRAM.
  const fd = bpf.socket(2, 2, 0);
  if (fd < 0) throw new KernelError('opening a socket', bpf.errno());
  try {
    const cookie = Buffer.alloc(8);
    const result = bpf.getSocketOption(fd, 1, 71, cookie, Uint32Array.of(8));
    checked(result < 0 ? -bpf.errno() : result, 'asking for the cookie of the network namespace (Linux 5.14)');
    return cookie.readBigUInt64LE();
  } finally {
    bpf.closeFd(fd);
  }
}
