const quote = 0x22;
const backslash = 0x5c;

/** What a byte outside of texts means. `nothing` is also part of a number or a word. */
const nothing = 0;
const opens = 1;
const closes = 2;
const begins = 3;
const space = 4;

const meaning = new Uint8Array(256);
for (const char of '{[') meaning[char.charCodeAt(0)] = opens;
for (const char of '}]') meaning[char.charCodeAt(0)] = closes;
for (const char of ' \t\r\n') meaning[char.charCodeAt(0)] = space;
meaning[quote] = begins;

export interface SplitOptions {
  /**
   * "values": the stream is JSON objects one after another, and each is given out, as a watch sends them.
   * "items": the stream is one object, and the members of its field "items" are given out, as a list sends them.
   */
  readonly of: 'values' | 'items';
  /** The bytes of one value; the callback's own until it returns. */
  readonly onValue: (json: Buffer) => void;
  /** Longest value that is put together. Default 16 MiB: ten times what etcd keeps. */
  readonly maxBytes?: number;
}

/**
 * Cuts JSON into the values of which it consists, wherever its chunks begin and end, and holds no more than one of them at a time.
 * Brackets and texts are followed; whether a value is valid JSON is left to who parses it.
 */
export class JsonSplitter {
  readonly #onValue: (json: Buffer) => void;
  readonly #values: Pieces;
  /** What a list says of itself, around its items. */
  readonly #envelope: Pieces;
  /** The text at depth 1 that is being read, or was read last: before a bracket it is the key. */
  readonly #key: Pieces;
  /** Depth at which a value opens: 1 for values, 3 for items. */
  readonly #valueDepth: 1 | 3;
  #depth = 0;
  #inText = false;
  #escaped = false;
  #inItems = false;

  constructor({ of, onValue, maxBytes = 16 * 1024 * 1024 }: SplitOptions) {
    this.#onValue = onValue;
    this.#values = new Pieces(maxBytes);
    this.#envelope = new Pieces(maxBytes);
    this.#key = new Pieces(maxBytes);
    this.#valueDepth = of === 'values' ? 1 : 3;
  }

  /** Of a stream of items that has ended: the list, without its items. @throws SyntaxError */
  envelope(): unknown {
    if (this.#depth > 0) throw new SyntaxError('the list ends in its middle');
    return JSON.parse(this.#envelope.whole().toString('utf8'));
  }

  /** @throws SyntaxError when brackets do not match, something else stands between values, or one is too long. */
  push(chunk: Buffer): void {
    const valueDepth = this.#valueDepth;
    const ofItems = valueDepth === 3;
    let depth = this.#depth;
    let inText = this.#inText;
    let escaped = this.#escaped;
    let inItems = this.#inItems;
    // Where in this chunk begins what is not kept yet: the value, the envelope, the text at depth 1. -1: none of it is being read.
    let valueFrom = depth >= valueDepth && (!ofItems || inItems) ? 0 : -1;
    let envelopeFrom = ofItems && !inItems ? 0 : -1;
    let keyFrom = ofItems && depth === 1 && inText ? 0 : -1;
    for (let i = 0; i < chunk.length; i++) {
      if (inText) {
        if (escaped) {
          escaped = false;
          continue;
        }
        // Most bytes are of texts: nothing else is done for them.
        while (i < chunk.length && chunk[i] !== quote && chunk[i] !== backslash) i++;
        if (i === chunk.length) break;
        if (chunk[i] === backslash) {
          escaped = true;
          continue;
        }
        inText = false;
        if (keyFrom >= 0) this.#key.add(chunk.subarray(keyFrom, i));
        keyFrom = -1;
        continue;
      }
      const means = meaning[chunk[i] as number];
      if (means === nothing && depth > 0) continue;
      if (means === opens) {
        depth++;
        if (depth === valueDepth && (!ofItems || inItems)) valueFrom = i;
        else if (ofItems && depth === 2 && this.#key.whole().toString() === 'items') {
          inItems = true;
          this.#envelope.add(chunk.subarray(envelopeFrom, i + 1));
          envelopeFrom = -1;
        }
      } else if (means === closes) {
        if (depth === valueDepth && valueFrom >= 0) {
          this.#onValue(this.#values.finish(chunk.subarray(valueFrom, i + 1)));
          valueFrom = -1;
        } else if (depth === 2 && inItems) {
          inItems = false;
          envelopeFrom = i;
        }
        depth--;
        if (depth < 0) throw new SyntaxError('a bracket closes that was never opened');
      } else if (depth === 0 && means !== space) {
        throw new SyntaxError('something that is no object stands between objects');
      } else if (means === begins) {
        inText = true;
        if (ofItems && depth === 1) {
          this.#key.clear();
          keyFrom = i + 1;
        }
      }
    }
    if (valueFrom >= 0) this.#values.add(chunk.subarray(valueFrom));
    if (envelopeFrom >= 0) this.#envelope.add(chunk.subarray(envelopeFrom));
    if (keyFrom >= 0) this.#key.add(chunk.subarray(keyFrom));
    this.#depth = depth;
    this.#inText = inText;
    this.#escaped = escaped;
    this.#inItems = inItems;
  }
}

/** Bytes that come in several chunks. */
class Pieces {
  readonly #maxBytes: number;
  #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Copies: a chunk is not kept alive for a piece of it. */
  add(piece: Buffer): void {
    this.#bytes += piece.length;
    if (this.#bytes > this.#maxBytes) throw new SyntaxError(`one value has more than ${this.#maxBytes} bytes`);
    this.#pieces.push(Buffer.from(piece));
  }

  /** All pieces and the last one, which is not copied where it is the only one; then there are none. */
  finish(last: Buffer): Buffer {
    if (this.#pieces.length === 0) return last;
    this.add(last);
    const whole = this.whole();
    this.clear();
    return whole;
  }

  whole(): Buffer {
    return Buffer.concat(this.#pieces);
  }

  clear(): void {
    this.#pieces = [];
    this.#bytes = 0;
  }
}
