import koffi from 'koffi';

/**
 * Every libc function that the netlink client calls, and nothing else. Node has no netlink sockets, and libc is always there.
 * Each takes and returns what its manual page says; -1 means that koffi.errno() tells why.
 */
const libc = koffi.load('libc.so.6');

export const socket: (domain: number, type: number, protocol: number) => number = libc.func(
  'int socket(int domain, int type, int protocol)',
);
export const close: (fd: number) => number = libc.func('int close(int fd)');
export const bind: (fd: number, address: Uint8Array, length: number) => number = libc.func(
  'int bind(int fd, const void *address, uint32_t length)',
);
export const getsockname: (fd: number, address: Uint8Array, length: Uint8Array) => number = libc.func(
  'int getsockname(int fd, _Inout_ void *address, _Inout_ void *length)',
);
export const setsockopt: (fd: number, level: number, name: number, value: Uint8Array, length: number) => number =
  libc.func('int setsockopt(int fd, int level, int name, const void *value, uint32_t length)');
export const fcntl: (fd: number, command: number, argument: number) => number = libc.func(
  'int fcntl(int fd, int command, int argument)',
);
export const send: (fd: number, data: Uint8Array, length: number, flags: number) => number = libc.func(
  'intptr_t send(int fd, const void *data, size_t length, int flags)',
);
export const recv: (fd: number, into: Uint8Array, length: number, flags: number) => number = libc.func(
  'intptr_t recv(int fd, _Inout_ void *into, size_t length, int flags)',
);

/** Of the last call above that returned -1. */
export const errno = (): number => koffi.errno();
