import { closeSync, openSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';

/** First bytes of the file; another number for another form. */
export const magic = Buffer.from('octojnl1', 'latin1');

/** Length and CRC-32 of the payload, little endian. */
const headerBytes = 8;

/** A record longer than this is not one of ours: the length itself is damaged. */
const longestPayload = 1 << 30;

export function encodeRecord(payload: Uint8Array): Buffer {
  const record = Buffer.allocUnsafe(headerBytes + payload.length);
  record.writeUInt32LE(payload.length, 0);
  record.writeUInt32LE(crc32(payload), 4);
  record.set(payload, headerBytes);
  return record;
}

export type Ending =
  | { readonly t: 'whole' }
  /** The last write was cut short, by a crash or a full disk: what precedes `offset` is good. */
  | { readonly t: 'torn'; readonly offset: number }
  /** Damage that no cut explains: good bytes follow it. */
  | { readonly t: 'damaged'; readonly offset: number; readonly what: string };

/**
 * Calls back for every record in turn with the offset at which it ends. The payload is valid only during the call: one
 * buffer serves all records, so that reading costs no memory in proportion to the file.
 */
export function readRecords(path: string, onRecord: (payload: Buffer, end: number) => void): Ending {
  const file = openSync(path, 'r');
  try {
    return readAll(new Window(file), onRecord);
  } finally {
    closeSync(file);
  }
}

function readAll(window: Window, onRecord: (payload: Buffer, end: number) => void): Ending {
  const start = window.take(magic.length);
  if (start === null) return { t: 'torn', offset: 0 };
  if (!start.equals(magic)) return { t: 'damaged', offset: 0, what: 'it does not begin as a journal does' };
  for (;;) {
    const offset = window.offset;
    const header = window.take(headerBytes);
    if (header === null) return window.left() === 0 ? { t: 'whole' } : { t: 'torn', offset };
    const length = header.readUInt32LE(0);
    const checksum = header.readUInt32LE(4);
    // A crash of the machine may leave a grown file whose last blocks were never written.
    if (length === 0 && checksum === 0 && window.onlyZerosLeft()) return { t: 'torn', offset };
    if (length > longestPayload) return { t: 'damaged', offset, what: `a record of ${length} bytes` };
    const payload = window.take(length);
    if (payload === null) return { t: 'torn', offset };
    if (crc32(payload) !== checksum)
      return window.atEnd()
        ? { t: 'torn', offset }
        : { t: 'damaged', offset, what: 'a record whose checksum is wrong' };
    onRecord(payload, window.offset);
  }
}

/** A stretch of the file in memory. */
class Window {
  readonly #file: number;
  #buffer = Buffer.allocUnsafe(1 << 18);
  #from = 0;
  #to = 0;
  #position = 0;
  offset = 0;

  constructor(file: number) {
    this.#file = file;
  }

  /** The next bytes, or null when fewer are left; then nothing is consumed. */
  take(length: number): Buffer | null {
    if (!this.#fill(length)) return null;
    const bytes = this.#buffer.subarray(this.#from, this.#from + length);
    this.#from += length;
    this.offset += length;
    return bytes;
  }

  left(): number {
    return this.#to - this.#from;
  }

  atEnd(): boolean {
    return this.left() === 0 && !this.#fill(1);
  }

  onlyZerosLeft(): boolean {
    for (;;) {
      if (this.#buffer.subarray(this.#from, this.#to).some((byte) => byte !== 0)) return false;
      this.#from = this.#to;
      if (!this.#fill(1)) return true;
    }
  }

  #fill(length: number): boolean {
    if (this.left() >= length) return true;
    const buffer = length > this.#buffer.length ? Buffer.allocUnsafe(length) : this.#buffer;
    this.#buffer.copy(buffer, 0, this.#from, this.#to);
    this.#to = this.left();
    this.#from = 0;
    this.#buffer = buffer;
    while (this.#to < length) {
      const read = readSync(this.#file, buffer, this.#to, buffer.length - this.#to, this.#position);
      if (read === 0) return false;
      this.#to += read;
      this.#position += read;
    }
    return true;
  }
}
