import { constants } from 'node:os';
import { NetlinkError } from './errors.ts';
import * as libc from './libc.ts';
import { eachAttribute, flags, headerLength, type Message, messagesIn, textOf, types } from './message.ts';
import { onReadable } from './readable.ts';

/** include/uapi/linux/netlink.h */
export const protocols = { route: 0, inetDiag: 4, netfilter: 12, generic: 16 } as const;

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_DROP_MEMBERSHIP = 2;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;
const EINTR = constants.errno.EINTR;
const EAGAIN = constants.errno.EAGAIN;

/** The kernel makes dump datagrams of up to 32 KiB when the reader has the room. */
const datagramBytes = 64 * 1024;

/** Dumps that a change interrupted are asked for again this many times. */
const dumpAttempts = 8;

/**
 * A netlink socket. Requests are synchronous, because the kernel answers them within send(): what is not in the receive queue
 * when send() returns will never come. So nothing here waits, but for `subscribe`, which is told by the kernel.
 *
 * A socket belongs to the network namespace in which it was opened.
 */
export class NetlinkSocket implements Disposable {
  readonly #fd: number;
  readonly #incoming = Buffer.allocUnsafeSlow(datagramBytes);
  #sequence = 1;
  #sendBytes = 0;
  #closed = false;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** @throws NetlinkError */
  static open(protocol: number): NetlinkSocket {
    const fd = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    if (fd < 0) throw new NetlinkError(`netlink socket of protocol ${protocol}`, libc.errno());
    const opened = new NetlinkSocket(fd);
    try {
      opened.#check('bind a netlink socket', libc.bind(fd, netlinkAddress(), 12));
      opened.#option(SOL_NETLINK, NETLINK_EXT_ACK, 1);
      opened.#option(SOL_NETLINK, NETLINK_CAP_ACK, 1);
    } catch (error) {
      opened[Symbol.dispose]();
      throw error;
    }
    return opened;
  }

  /** The kernel's name for this socket: the `port` of notifications that it caused itself. */
  get port(): number {
    const address = Buffer.from(netlinkAddress());
    const length = Buffer.alloc(4);
    length.writeUInt32LE(address.length);
    this.#check('getsockname of a netlink socket', libc.getsockname(this.#fd, address, length));
    return address.readUInt32LE(4);
  }

  /** A fresh sequence number for one message. */
  nextSequence(): number {
    const sequence = this.#sequence;
    this.#sequence = this.#sequence >= 0x7fff_ffff ? 1 : this.#sequence + 1;
    return sequence;
  }

  /** Filters in dump requests are obeyed, and unknown attributes refused (kernel 4.20, rtnetlink and ctnetlink). */
  strict(): void {
    this.#option(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
  }

  /** Sends one datagram of one or more messages, which the kernel works through before this returns. */
  send(datagram: Uint8Array): void {
    this.#fitSendBuffer(datagram.length);
    for (;;) {
      const sent = libc.send(this.#fd, datagram, datagram.length, 0);
      if (sent === datagram.length) return;
      const errno = libc.errno();
      if (sent < 0 && errno === EINTR) continue;
      throw new NetlinkError(`send ${datagram.length} bytes by netlink`, errno);
    }
  }

  /**
   * All that is in the receive queue, errors and acks included; a dump goes on as it is read. The last message's body is no
   * longer valid when the next one is taken.
   */
  *receive(): Generator<Message> {
    for (let length = this.#recv(); length >= 0; length = this.#recv()) {
      yield* messagesIn(this.#incoming.subarray(0, length));
    }
  }

  /**
   * Sends messages that do not dump and hands every answer to `visit`. Refusals are returned, in the order of the messages,
   * because a batch may be refused for several reasons.
   */
  exchange(datagram: Uint8Array, visit?: (message: Message) => void): NetlinkError[] {
    this.send(datagram);
    const refusals: NetlinkError[] = [];
    for (const message of this.receive()) {
      if (message.type === types.error) {
        const refusal = refusalIn(message);
        if (refusal) refusals.push(refusal);
      } else if (message.type !== types.done) {
        visit?.(message);
      }
    }
    return refusals;
  }

  /**
   * Sends one dump request and hands every answer to `visit`. When the kernel's tables change meanwhile the dump is asked for
   * again after `restart`, in which the caller forgets what it has seen.
   * @throws NetlinkError
   */
  dump(request: Uint8Array, visit: (message: Message) => void, restart: () => void): void {
    for (let attempt = 1; ; attempt++) {
      if (this.#dumpOnce(request, visit)) return;
      if (attempt === dumpAttempts) {
        throw new NetlinkError(`a netlink dump was interrupted ${attempt} times`, constants.errno.EINTR);
      }
      restart();
    }
  }

  /**
   * Joins multicast groups, and calls back with every message until the signal aborts. `onLost` is called when the kernel
   * dropped messages because they came faster than they were read. Returns a function that reads what has come so far at once.
   */
  subscribe(
    groups: readonly number[],
    handlers: { readonly onMessage: (message: Message) => void; readonly onLost: () => void },
    signal: AbortSignal,
  ): () => void {
    for (const group of groups) this.join(group);
    this.#buffer(SO_RCVBUFFORCE, SO_RCVBUF, 4 * 1024 * 1024);
    const read = (): void => {
      if (signal.aborted || this.#closed) return;
      try {
        for (const message of this.receive()) handlers.onMessage(message);
      } catch (error) {
        if (!(error instanceof NetlinkError && error.code === 'ENOBUFS')) throw error;
        handlers.onLost();
      }
    };
    onReadable(this.#fd, signal, read);
    return read;
  }

  join(group: number): void {
    this.#option(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
  }

  leave(group: number): void {
    this.#option(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, group);
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    libc.close(this.#fd);
  }

  #dumpOnce(request: Uint8Array, visit: (message: Message) => void): boolean {
    this.send(request);
    let whole = true;
    let ended = false;
    for (const message of this.receive()) {
      if ((message.flags & flags.dumpInterrupted) !== 0) whole = false;
      if (message.type === types.error) {
        const refusal = refusalIn(message);
        if (refusal) throw refusal;
      } else if (message.type === types.done) {
        ended = true;
        const errno = message.body.length >= 4 ? -message.body.readInt32LE(0) : 0;
        if (errno === constants.errno.EINTR) whole = false;
        else if (errno > 0) throw new NetlinkError('netlink dump', errno);
      } else if (whole) {
        visit(message);
      }
    }
    if (!ended) throw new NetlinkError('netlink dump without an end', constants.errno.EPROTO);
    return whole;
  }

  /** Length of the next datagram, or -1 when the queue is empty. */
  #recv(): number {
    for (;;) {
      const length = libc.recv(this.#fd, this.#incoming, this.#incoming.length, 0);
      if (length >= 0) return length;
      const errno = libc.errno();
      if (errno === EAGAIN) return -1;
      if (errno !== EINTR) throw new NetlinkError('receive by netlink', errno);
    }
  }

  /** A transaction is one datagram, and the kernel takes none larger than the send buffer. */
  #fitSendBuffer(bytes: number): void {
    if (bytes <= this.#sendBytes) return;
    this.#sendBytes = Math.max(bytes + 4096, 256 * 1024);
    this.#buffer(SO_SNDBUFFORCE, SO_SNDBUF, this.#sendBytes);
  }

  /** The FORCE form needs CAP_NET_ADMIN in the first user namespace; the other is capped by net.core.{r,w}mem_max. */
  #buffer(forced: number, capped: number, bytes: number): void {
    if (libc.setsockopt(this.#fd, SOL_SOCKET, forced, int32(bytes), 4) === 0) return;
    this.#option(SOL_SOCKET, capped, bytes);
  }

  #option(level: number, name: number, value: number): void {
    this.#check(`netlink socket option ${name}`, libc.setsockopt(this.#fd, level, name, int32(value), 4));
  }

  #check(what: string, result: number): void {
    if (result < 0) throw new NetlinkError(what, libc.errno());
  }
}

/** Null when the message is an acknowledgement. */
function refusalIn(message: Message): NetlinkError | null {
  const { body } = message;
  const errno = -body.readInt32LE(0);
  if (errno === 0) return null;
  let explanation = '';
  let offset = -1;
  eachAttribute(body, 4 + headerLength, body.length, (type, start, end) => {
    if (type === NLMSGERR_ATTR_MSG) explanation = textOf(body, start, end);
    else if (type === NLMSGERR_ATTR_OFFS) offset = body.readUInt32LE(start);
  });
  return new NetlinkError('the kernel refused a netlink message', errno, {
    explanation,
    sequence: message.sequence,
    offset,
  });
}

/** struct sockaddr_nl: family, padding, port 0 (the kernel chooses), groups 0. */
function netlinkAddress(): Uint8Array {
  const address = Buffer.alloc(12);
  address.writeUInt16LE(AF_NETLINK, 0);
  return address;
}

function int32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
