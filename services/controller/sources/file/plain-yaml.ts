/**
 * A fast reader for the plain block YAML that tools write: mappings, sequences and one-line scalars. It reads a manifest some thirty
 * times faster than the full parser, which matters at 20,000 manifests. Whatever is not plain to it (flow collections, block
 * scalars, anchors, tags, comments behind values, doubtful numbers) it leaves to the full parser by answering null.
 *
 * The law (plain-yaml.test.ts): where the answer is not null, it is what the full parser reads.
 */
export type Plain = string | number | boolean | null | Plain[] | { [key: string]: Plain };

/** Where the values of a collection begin, by key or index; 0-based. */
export type Places = Map<object, Map<string | number, { readonly line: number; readonly column: number }>>;

/** Undefined: not plain. `places`: filled with the place of every value, when given. */
export function parsePlainYaml(text: string, places: Places | null = null): Plain | undefined {
  const reader = new Reader(text.split('\n'), places);
  try {
    return reader.document();
  } catch (error) {
    if (error === notPlain) return undefined;
    throw error;
  }
}

const notPlain = Symbol('not plain');

/** Keys begin with a letter, so that none is a number, and none is __proto__. */
const keyForm = /^([A-Za-z][\w./-]*):(?: +(\S.*))?$/;
const words = /^[A-Za-z][\w./-]*(?:[ :][\w./-]+)*$/;
const integer = /^(?:0|[1-9]\d{0,14})$/;
/** IPv4 addresses, IPv6 addresses and times that begin with a digit: no number looks like these. */
const addressLike = /^\d[\da-fA-F]*(?:\.\d+){3}(?:\/\d+)?$|^[\da-fA-F]*:[\da-fA-F:]*[\da-fA-F](?:\/\d+)?$/;
const doubleQuoted = /^"[^"\\]*"$/;
const singleQuoted = /^'[^']*'$/;
/** Words of the core schema that are no strings, and those that older readers take for something else. */
const special = /^(?:null|true|false)$/i;

class Reader {
  readonly #lines: readonly string[];
  readonly #places: Places | null;
  #at = 0;
  /** Of the current line. */
  #indent = -1;

  constructor(lines: readonly string[], places: Places | null) {
    this.#lines = lines;
    this.#places = places;
  }

  document(): Plain {
    this.#settle();
    if (this.#indent < 0) return null;
    const value = this.#block(this.#indent);
    if (this.#indent >= 0) throw notPlain;
    return value;
  }

  /** Skips empty lines and comments. The indent is -1 at the end. */
  #settle(): void {
    for (; this.#at < this.#lines.length; this.#at++) {
      const line = this.#lines[this.#at] ?? '';
      let i = 0;
      while (line.charCodeAt(i) === 32) i++;
      const first = line[i];
      if (first === undefined || first === '#' || (first === '\r' && i === line.length - 1)) continue;
      if (first === '\t' || line.includes('\t') || (i === 0 && (line.startsWith('...') || line.startsWith('%'))))
        throw notPlain;
      this.#indent = i;
      return;
    }
    this.#indent = -1;
  }

  /** The rest of the current line from a column on. */
  #rest(column: number): string {
    const line = this.#lines[this.#at] ?? '';
    let end = line.length;
    while (end > column && (line.charCodeAt(end - 1) === 32 || line.charCodeAt(end - 1) === 13)) end--;
    return line.slice(column, end);
  }

  #next(): void {
    this.#at++;
    this.#settle();
  }

  #block(indent: number): Plain {
    const rest = this.#rest(indent);
    if (rest === '-' || rest.startsWith('- ')) return this.#sequence(indent);
    return this.#mapping(indent, rest);
  }

  #mapping(indent: number, first: string): Plain {
    const mapping: { [key: string]: Plain } = {};
    const places = this.#track(mapping);
    let rest = first;
    for (;;) {
      const match = keyForm.exec(rest);
      const key = match?.[1];
      if (key === undefined || special.test(key) || Object.hasOwn(mapping, key)) throw notPlain;
      const scalar = match?.[2];
      places?.set(key, { line: this.#at, column: indent });
      mapping[key] = scalar === undefined ? this.#nested(indent) : this.#scalar(scalar, indent);
      if (this.#indent < indent) return mapping;
      if (this.#indent > indent) throw notPlain;
      rest = this.#rest(indent);
    }
  }

  /** What stands below "key:". A sequence may stand at the indent of its key. */
  #nested(indent: number): Plain {
    this.#next();
    if (this.#indent > indent) return this.#block(this.#indent);
    if (this.#indent === indent) {
      const rest = this.#rest(indent);
      if (rest === '-' || rest.startsWith('- ')) return this.#sequence(indent);
    }
    return null;
  }

  #sequence(indent: number): Plain {
    const sequence: Plain[] = [];
    const places = this.#track(sequence);
    for (;;) {
      const rest = this.#rest(indent);
      if (rest !== '-' && !rest.startsWith('- ')) return sequence;
      let column = indent + 1;
      while ((this.#lines[this.#at] ?? '').charCodeAt(column) === 32) column++;
      const item = this.#rest(column);
      places?.set(sequence.length, { line: this.#at, column: item === '' ? indent : column });
      if (item === '') sequence.push(this.#itemBelow(indent));
      else if (item === '-' || item.startsWith('- ')) throw notPlain;
      else if (keyForm.test(item)) sequence.push(this.#mapping(column, item));
      else sequence.push(this.#scalar(item, indent));
      if (this.#indent < indent) return sequence;
      if (this.#indent > indent) throw notPlain;
    }
  }

  #itemBelow(indent: number): Plain {
    this.#next();
    return this.#indent > indent ? this.#block(this.#indent) : null;
  }

  /** A value that ends with its line: what is indented deeper would continue it. */
  #scalar(text: string, indent: number): Plain {
    this.#next();
    if (this.#indent > indent) throw notPlain;
    return scalarOf(text);
  }

  #track(collection: object): Map<string | number, { line: number; column: number }> | null {
    if (this.#places === null) return null;
    const places = new Map<string | number, { line: number; column: number }>();
    this.#places.set(collection, places);
    return places;
  }
}

function scalarOf(text: string): Plain {
  if (integer.test(text)) return Number(text);
  if (addressLike.test(text)) return detached(text);
  if (words.test(text)) {
    if (!special.test(text)) return detached(text);
    if (text === 'true') return true;
    if (text === 'false') return false;
    if (text === 'null') return null;
    throw notPlain;
  }
  if (doubleQuoted.test(text) || singleQuoted.test(text)) return detached(text.slice(1, -1));
  if (text === '{}') return {};
  if (text === '[]') return [];
  throw notPlain;
}

/** V8 keeps the whole file alive for a slice of 13 characters or more; such a slice is copied out of it. */
const detached = (text: string): string => (text.length < 13 ? text : Buffer.from(text).toString());
