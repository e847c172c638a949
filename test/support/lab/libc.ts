import { closeSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import { type Ip, ipToBytes } from '@octoplane/model/address.ts';
import koffi from 'koffi';

/**
 * Every C function that the lab calls, in one place, and the errno that goes with it.
 *
 * A socket belongs to the network namespace of the thread that made it, for ever; so one process can hold sockets of many
 * hosts if it changes its namespace around the socket(2) call alone. setns(2) concerns the calling thread only, and
 * everything between `setns` there and back is synchronous, so nothing else of this process can run in between.
 */
const libc = koffi.load('libc.so.6');

const setnsFn = libc.func('int setns(int fd, int nstype)');
const socketFn = libc.func('int socket(int domain, int type, int protocol)');
const bindFn = libc.func('int bind(int fd, const uint8_t *address, uint32_t length)');
const connectFn = libc.func('int connect(int fd, const uint8_t *address, uint32_t length)');
const listenFn = libc.func('int listen(int fd, int backlog)');
const setsockoptFn = libc.func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)');
const sendtoFn = libc.func(
  'intptr_t sendto(int fd, const uint8_t *data, size_t size, int flags, const uint8_t *address, uint32_t length)',
);
const recvfromFn = libc.func(
  'intptr_t recvfrom(int fd, _Out_ uint8_t *data, size_t size, int flags, _Out_ uint8_t *address, _Inout_ uint32_t *length)',
);
const eventfdFn = libc.func('int eventfd(uint32_t initial, int flags)');
koffi.struct('pollfd', { fd: 'int', events: 'short', revents: 'short' });
const pollFn = libc.func('int poll(_Inout_ pollfd *fds, unsigned long count, int timeoutMs)');

/** A system call that failed, with errno by name ("ECONNREFUSED"), as Node's own errors carry it. */
export class SystemCallError extends Error {
  override readonly name = 'SystemCallError';
  readonly code: string;
  constructor(call: string, errno: number) {
    const code = errnoNames.get(errno) ?? `errno ${errno}`;
    super(`${call}: ${code}`);
    this.code = code;
  }
}

/** Of two names for one number the first: EAGAIN, not EWOULDBLOCK. */
const errnoNames = new Map(
  Object.entries(constants.errno)
    .reverse()
    .map(([name, number]) => [number, name]),
);

const lastErrnoIs = (name: string): boolean => errnoNames.get(koffi.errno()) === name;

function checked(call: string, result: number): number {
  if (result < 0) throw new SystemCallError(call, koffi.errno());
  return result;
}

export const socketTypes = { stream: 1, datagram: 2, raw: 3 } as const;
export const ipProtocols = { any: 0, icmp: 1, tcp: 6, icmp6: 58, sctp: 132 } as const;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const CLONE_NEWNET = 0x40000000;
const MSG_DONTWAIT = 0x40;

/** Runs `make` with this thread in the network namespace bound at `path`, and comes back whatever happens. */
export function inNetns<T>(path: string, make: () => T): T {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  try {
    const there = openSync(path, 'r');
    try {
      checked(`setns ${path}`, setnsFn(there, CLONE_NEWNET));
    } finally {
      closeSync(there);
    }
    try {
      return make();
    } finally {
      checked('setns home', setnsFn(home, CLONE_NEWNET));
    }
  } finally {
    closeSync(home);
  }
}

/** A non-blocking socket in the namespace; close it with closeSync unless somebody takes it over. */
export function openSocket(netns: string, family: 4 | 6, type: number, protocol: number): number {
  const domain = family === 4 ? AF_INET : AF_INET6;
  return inNetns(netns, () => checked('socket', socketFn(domain, type | SOCK_NONBLOCK_CLOEXEC, protocol)));
}

export const bindSocket = (fd: number, ip: Ip, port: number): number =>
  checked(`bind ${ip} port ${port}`, bindFn(fd, ...sockaddr(ip, port)));

export const listenSocket = (fd: number): number => checked('listen', listenFn(fd, 1024));

/** EINPROGRESS is success: the outcome shows when the socket is used. */
export function connectSocket(fd: number, ip: Ip, port: number): void {
  if (connectFn(fd, ...sockaddr(ip, port)) < 0 && !lastErrnoIs('EINPROGRESS'))
    throw new SystemCallError(`connect ${ip} port ${port}`, koffi.errno());
}

const options = {
  reuseAddress: [1, 2],
  /** Report every ICMP error to the socket, not only the hard ones: IP_RECVERR. */
  errors4: [0, 11],
  /** IPV6_RECVERR */
  errors6: [41, 25],
  ipv6Only: [41, 26],
} as const;

export function setSocketOption(fd: number, option: keyof typeof options, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  checked(`setsockopt ${option}`, setsockoptFn(fd, ...options[option], bytes, bytes.length));
}

export function sendTo(fd: number, data: Uint8Array, to: { ip: Ip; port: number } | null): void {
  const [address, length] = to === null ? ([null, 0] as const) : sockaddr(to.ip, to.port);
  checked('sendto', sendtoFn(fd, data, data.length, MSG_DONTWAIT, address, length));
}

export interface Received {
  readonly data: Buffer;
  /** Of the sender: 4 or 16 bytes. */
  readonly address: Buffer;
}

/** One datagram, or null when there is none. */
export function receiveFrom(fd: number): Received | null {
  const data = Buffer.alloc(2048);
  const from = Buffer.alloc(28);
  const size = recvfromFn(fd, data, data.length, MSG_DONTWAIT, from, [from.length]);
  if (size >= 0) {
    const address = from.readUInt16LE(0) === AF_INET ? from.subarray(4, 8) : from.subarray(8, 24);
    return { data: data.subarray(0, Number(size)), address };
  }
  if (lastErrnoIs('EAGAIN')) return null;
  throw new SystemCallError('recvfrom', koffi.errno());
}

/** A counter to wake `pollReadable` with: write 8 bytes to it. */
export const openEventFd = (): number => checked('eventfd', eventfdFn(0, 0o4000 | 0o2000000));

/** Waits on a pool thread, without a time limit, until at least one is readable or has an error; returns those. */
export async function pollReadable(fds: readonly number[]): Promise<number[]> {
  const POLLIN = 1;
  const states = fds.map((fd) => ({ fd, events: POLLIN, revents: 0 }));
  const result = await new Promise<number>((resolve, reject) =>
    pollFn.async(states, states.length, -1, (error: Error | null, value: number) =>
      error ? reject(error) : resolve(value),
    ),
  );
  if (result < 0) throw new Error('poll failed');
  return states.filter((state) => state.revents !== 0).map((state) => state.fd);
}

/** struct sockaddr_in or sockaddr_in6, and its length. */
function sockaddr(ip: Ip, port: number): [Buffer, number] {
  const address = ipToBytes(ip);
  const bytes = Buffer.alloc(address.length === 4 ? 16 : 28);
  bytes.writeUInt16LE(address.length === 4 ? AF_INET : AF_INET6);
  bytes.writeUInt16BE(port, 2);
  bytes.set(address, address.length === 4 ? 4 : 8);
  return [bytes, bytes.length];
}

/** Prepares a socket, or closes it. */
export function closeOnFailure(fd: number, prepare: () => void): void {
  try {
    prepare();
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
