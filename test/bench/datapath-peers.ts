import { createInterface } from 'node:readline';
import koffi from 'koffi';

/**
 * Clients and servers of the datapath benchmark: blocking system calls in a loop, one process each, so that what is measured
 * is the kernel and a fixed cost that is the same for all.
 *
 * node datapath-peers.ts serve connections|datagrams IP PORT
 * node datapath-peers.ts client connect|exchange|requests|datagrams IP PORT
 *   for every line on its stdin, a number: so many operations, and the nanoseconds that one took on its stdout
 */
const libc = koffi.load('libc.so.6');
const socket: (family: number, type: number, protocol: number) => number = libc.func('int socket(int, int, int)');
const connect: (fd: number, to: Buffer, bytes: number) => number = libc.func(
  'int connect(int, const void *, uint32_t)',
);
const bind: (fd: number, at: Buffer, bytes: number) => number = libc.func('int bind(int, const void *, uint32_t)');
const listen: (fd: number, backlog: number) => number = libc.func('int listen(int, int)');
const accept: (fd: number, from: null, bytes: null) => number = libc.func('int accept(int, void *, void *)');
const close: (fd: number) => number = libc.func('int close(int)');
const send: (fd: number, bytes: Buffer, count: number, flags: number) => number = libc.func(
  'int64_t send(int, const void *, size_t, int)',
);
const recv: (fd: number, bytes: Buffer, count: number, flags: number) => number = libc.func(
  'int64_t recv(int, void *, size_t, int)',
);
const receiveFrom: (
  fd: number,
  bytes: Buffer,
  count: number,
  flags: number,
  from: Buffer,
  size: Uint32Array,
) => number = libc.func('int64_t recvfrom(int, void *, size_t, int, void *, void *)');
const sendTo: (fd: number, bytes: Buffer, count: number, flags: number, to: Buffer, size: number) => number = libc.func(
  'int64_t sendto(int, const void *, size_t, int, const void *, uint32_t)',
);
const setOption: (fd: number, level: number, name: number, value: Buffer, bytes: number) => number = libc.func(
  'int setsockopt(int, int, int, const void *, uint32_t)',
);

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_LINGER = 13;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;

const message = Buffer.alloc(64);

function addressOf(ip: string, port: number): Buffer {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.set(ip.split('.').map(Number), 4);
  return address;
}

function checked(result: number, what: string): number {
  if (result < 0) throw new Error(`${what}: errno ${koffi.errno()}`);
  return result;
}

function setInt(fd: number, level: number, name: number, ...values: number[]): void {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [i, value] of values.entries()) bytes.writeInt32LE(value, i * 4);
  checked(setOption(fd, level, name, bytes, bytes.length), 'setsockopt');
}

function open(to: Buffer, type: number): number {
  const fd = checked(socket(AF_INET, type, 0), 'socket');
  checked(connect(fd, to, to.length), 'connect');
  return fd;
}

/** Ends by a reset: hundreds of thousands of connections in TIME_WAIT would leave no ports. */
function abort(fd: number): void {
  setInt(fd, SOL_SOCKET, SO_LINGER, 1, 0);
  close(fd);
}

function exchange(fd: number): void {
  checked(send(fd, message, 1, 0), 'send');
  if (checked(recv(fd, message, 64, 0), 'recv') !== 1) throw new Error('the server went away');
}

/** What is repeated, and what is done before it, untimed. */
interface Kind {
  prepare(to: Buffer): number;
  repeat(fd: number, to: Buffer): void;
}

const kinds: Readonly<Record<string, Kind>> = {
  connect: { prepare: () => -1, repeat: (_, to) => abort(open(to, SOCK_STREAM)) },
  exchange: {
    prepare: () => -1,
    repeat: (_, to) => {
      const fd = open(to, SOCK_STREAM);
      exchange(fd);
      abort(fd);
    },
  },
  requests: {
    prepare: (to) => {
      const fd = open(to, SOCK_STREAM);
      setInt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
      exchange(fd);
      return fd;
    },
    repeat: exchange,
  },
  datagrams: { prepare: (to) => open(to, SOCK_DGRAM), repeat: exchange },
};

async function client(name: string, to: Buffer): Promise<void> {
  const kind = kinds[name];
  if (!kind) throw new Error(`no operation ${name}`);
  for await (const line of createInterface(process.stdin)) {
    const count = Number(line);
    const fd = kind.prepare(to);
    const start = process.hrtime.bigint();
    for (let i = 0; i < count; i++) kind.repeat(fd, to);
    const elapsed = Number(process.hrtime.bigint() - start);
    if (fd >= 0) abort(fd);
    process.stdout.write(`${elapsed / count}\n`);
  }
}

function serve(kind: string, at: Buffer): void {
  const fd = checked(socket(AF_INET, kind === 'datagrams' ? SOCK_DGRAM : SOCK_STREAM, 0), 'socket');
  setInt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  checked(bind(fd, at, at.length), 'bind');
  if (kind !== 'datagrams') checked(listen(fd, 1024), 'listen');
  process.stdout.write('ready\n');
  for (;;) {
    if (kind === 'datagrams') answerDatagram(fd);
    else answer(checked(accept(fd, null, null), 'accept'));
  }
}

function answerDatagram(fd: number): void {
  const from = Buffer.alloc(16);
  const size = Uint32Array.of(16);
  const count = receiveFrom(fd, message, 64, 0, from, size);
  if (count > 0) sendTo(fd, message, count, 0, from, 16);
}

/** One connection to its end: clients come one after the other. */
function answer(fd: number): void {
  for (;;) {
    const count = recv(fd, message, 64, 0);
    if (count <= 0) break;
    send(fd, message, count, 0);
  }
  close(fd);
}

const [, , role, kind = '', ip = '', port] = process.argv;
const address = addressOf(ip, Number(port));
if (role === 'serve') serve(kind, address);
else await client(kind, address);
