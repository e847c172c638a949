/**
 * Netlink messages as bytes (RFC 3549; include/uapi/linux/netlink.h). Headers are in host byte order, which is little
 * endian on every machine that Node 24 is built for but s390x; what a protocol keeps in network order, its caller writes so.
 */
export const flags = {
  request: 0x01,
  multi: 0x02,
  ack: 0x04,
  /** The kernel saw a change while it answered a dump: what came is no one state. */
  dumpInterrupted: 0x10,
  dump: 0x300,
  /** For what makes objects: fail when it is there; make it when it is not; add it at the end. */
  excl: 0x200,
  create: 0x400,
  append: 0x800,
} as const;

export const types = { noop: 1, error: 2, done: 3, overrun: 4 } as const;

export const headerLength = 16;
const nested = 0x8000;
const typeMask = 0x3fff;

const align = (length: number): number => (length + 3) & ~3;

/** Builds any number of messages in one growing buffer. A writer is meant to be reset and used again. */
export class MessageWriter {
  #buffer: Buffer;
  #view: DataView;
  #end = 0;
  #message = -1;

  constructor(initialBytes = 64 * 1024) {
    this.#buffer = Buffer.allocUnsafeSlow(initialBytes);
    this.#view = viewOf(this.#buffer);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#end;
  }

  /** A view, valid until the next write. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#end);
  }

  /** Where the message that is being written begins. */
  get messageStart(): number {
    return this.#message;
  }

  reset(): void {
    this.#end = 0;
    this.#message = -1;
  }

  /** Resets, and gives up the room that an unusually large datagram took. */
  shrink(bytes = 64 * 1024): void {
    this.reset();
    this.#buffer = Buffer.allocUnsafeSlow(bytes);
    this.#view = viewOf(this.#buffer);
  }

  begin(type: number, messageFlags: number, sequence: number): void {
    this.#message = this.#end;
    this.#need(headerLength);
    this.#view.setUint32(this.#end, 0, true);
    this.#view.setUint16(this.#end + 4, type, true);
    this.#view.setUint16(this.#end + 6, messageFlags, true);
    this.#view.setUint32(this.#end + 8, sequence, true);
    this.#view.setUint32(this.#end + 12, 0, true);
    this.#end += headerLength;
  }

  end(): void {
    this.#view.setUint32(this.#message, this.#end - this.#message, true);
  }

  /** Adds to the flags of the message that is being written, or was written last. */
  addFlags(more: number): void {
    this.#view.setUint16(this.#message + 6, this.#view.getUint16(this.#message + 6, true) | more, true);
  }

  /** The protocol's own header after the netlink header. */
  raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length);
    this.#buffer.set(bytes, at);
  }

  /** Returns the token that endNested wants. */
  beginNested(type: number): number {
    const at = this.#room(4);
    this.#view.setUint16(at + 2, type | nested, true);
    return at;
  }

  /** @throws RangeError: an attribute holds less than 64 KiB. */
  endNested(at: number): void {
    const length = this.#end - at;
    if (length > 0xffff) throw new RangeError(`a netlink attribute of ${length} bytes does not fit`);
    this.#view.setUint16(at, length, true);
  }

  attribute(type: number, value: Uint8Array): void {
    const at = this.#attribute(type, value.length);
    this.#buffer.set(value, at);
  }

  /** Ends in NUL, as the kernel wants its strings. */
  text(type: number, value: string): void {
    const length = Buffer.byteLength(value);
    const at = this.#attribute(type, length + 1);
    this.#buffer.write(value, at, 'utf8');
    this.#buffer[at + length] = 0;
  }

  /** 32 bits in network order. */
  u32be(type: number, value: number): void {
    this.#view.setUint32(this.#attribute(type, 4), value, false);
  }

  /** Room for a value of this size, zeroed; returns where it begins, for `poke`. */
  reserve(type: number, length: number): number {
    const at = this.#attribute(type, length);
    // Values are short, and Buffer.fill costs more than they do.
    for (let i = at; i < at + length; i++) this.#buffer[i] = 0;
    return at;
  }

  /** The buffer under the last `reserve`; valid until the next write. */
  get target(): Buffer {
    return this.#buffer;
  }

  #attribute(type: number, length: number): number {
    const at = this.#room(4 + length);
    this.#view.setUint16(at, 4 + length, true);
    this.#view.setUint16(at + 2, type, true);
    return at + 4;
  }

  /** Makes aligned room and zeroes its padding. */
  #room(length: number): number {
    const padded = align(length);
    this.#need(padded);
    const at = this.#end;
    for (let i = at + length; i < at + padded; i++) this.#buffer[i] = 0;
    this.#end += padded;
    return at;
  }

  #need(more: number): void {
    if (this.#end + more <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#end + more));
    this.#buffer.copy(grown, 0, 0, this.#end);
    this.#buffer = grown;
    this.#view = viewOf(grown);
  }
}

/** One message as received. `body` is a view into the receive buffer: read it before the next message is asked for. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly port: number;
  readonly body: Buffer;
}

/** The messages in one datagram. */
export function* messagesIn(datagram: Buffer): Generator<Message> {
  for (let at = 0; at + headerLength <= datagram.length; ) {
    const length = datagram.readUInt32LE(at);
    if (length < headerLength || at + length > datagram.length) {
      throw new RangeError(`netlink message of ${length} bytes at ${at} of ${datagram.length}`);
    }
    yield {
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      port: datagram.readUInt32LE(at + 12),
      body: datagram.subarray(at + headerLength, at + length),
    };
    at += align(length);
  }
}

/** Calls back with type and value bounds of every attribute from `at` to `end`; no objects are made, dumps are long. */
export function eachAttribute(
  bytes: Buffer,
  at: number,
  end: number,
  visit: (type: number, start: number, end: number) => void,
): void {
  for (let next = at; next + 4 <= end; ) {
    const length = bytes.readUInt16LE(next);
    if (length < 4 || next + length > end)
      throw new RangeError(`netlink attribute of ${length} bytes at ${next} of ${end}`);
    visit(bytes.readUInt16LE(next + 2) & typeMask, next + 4, next + length);
    next += align(length);
  }
}

/** Text without its NUL. */
export function textOf(bytes: Buffer, start: number, end: number): string {
  return bytes.toString('utf8', start, end > start && bytes[end - 1] === 0 ? end - 1 : end);
}

const viewOf = (buffer: Buffer): DataView => new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
