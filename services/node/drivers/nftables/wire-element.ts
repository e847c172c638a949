import { type Ip, ipFromBytes, ipToBytes, parseCidr } from '@octoplane/model/address.ts';
import { eachAttribute, type MessageWriter } from '../../netlink/message.ts';
import type { Element } from './element.ts';
import { type Field, layoutOf, type SetLayout, tableName } from './layout.ts';
import {
  attributes,
  beginMessage,
  commentIn,
  DATA_VALUE,
  DATA_VERDICT,
  LIST_ELEMENT,
  protocolNames,
  protocolNumber,
  readVerdict,
  userText,
  writeVerdict,
} from './wire.ts';

/** Elements of sets and maps: NFTA_SET_ELEM_*. */
const ELEMENT_KEY = 1;
const ELEMENT_DATA = 2;
const ELEMENT_USERDATA = 6;
const ELEMENT_KEY_END = 10;
const USERDATA_COMMENT = 0;

export function beginElements(
  writer: MessageWriter,
  type: number,
  messageFlags: number,
  set: string,
  sequence: number,
): number {
  beginMessage(writer, type, messageFlags, sequence);
  writer.text(attributes.table, tableName);
  writer.text(attributes.elementsSet, set);
  return writer.beginNested(attributes.elements);
}

export function endElements(writer: MessageWriter, nest: number): void {
  writer.endNested(nest);
  writer.end();
}

export function writeElement(
  writer: MessageWriter,
  element: Element,
  withValue: boolean,
  layout: SetLayout = layoutOf(element.set),
): void {
  const item = writer.beginNested(LIST_ELEMENT);
  writeFields(writer, ELEMENT_KEY, layout.key, element.key, false);
  if (layout.interval) writeFields(writer, ELEMENT_KEY_END, layout.key, element.key, true);
  if (withValue) {
    if (typeof element.value === 'string') writeVerdict(writer, ELEMENT_DATA, element.value);
    else if (element.value !== null && Array.isArray(layout.value)) {
      writeFields(writer, ELEMENT_DATA, layout.value, element.value, false);
    }
    if (element.comment !== null) writer.attribute(ELEMENT_USERDATA, userText(USERDATA_COMMENT, element.comment));
  }
  writer.endNested(item);
}

function writeFields(
  writer: MessageWriter,
  type: number,
  fields: readonly Field[],
  values: readonly (string | number)[],
  rangeEnds: boolean,
): void {
  const nest = writer.beginNested(type);
  let at = writer.reserve(DATA_VALUE, fieldsLength(fields));
  const { target } = writer;
  for (const [i, field] of fields.entries()) {
    writeField(target, at, field, values[i] ?? 0, rangeEnds);
    at += fieldLength(field);
  }
  writer.endNested(nest);
}

function writeField(target: Buffer, at: number, field: Field, value: string | number, rangeEnd: boolean): void {
  switch (field) {
    case 'ip4':
      writeIp4(target, at, String(value));
      break;
    case 'ip6':
      target.set(ipToBytes(String(value)), at);
      break;
    case 'range4':
    case 'range6':
      target.set(rangeBound(String(value), rangeEnd), at);
      break;
    case 'proto':
      target[at] = protocolNumber(String(value));
      break;
    case 'port':
      target.writeUInt16BE(Number(value), at);
      break;
    case 'index':
      // nft keeps drawn numbers in the byte order of the host.
      target.writeUInt32LE(Number(value), at);
      break;
  }
}

/** Without an array in between: a cold load writes two hundred thousand of them. */
function writeIp4(target: Buffer, at: number, ip: Ip): void {
  let part = 0;
  let next = at;
  for (let i = 0; i < ip.length; i++) {
    const digit = ip.charCodeAt(i) - 48;
    if (digit >= 0) part = part * 10 + digit;
    else {
      target[next++] = part;
      part = 0;
    }
  }
  target[next] = part;
}

function rangeBound(range: string, end: boolean): Uint8Array {
  const cidr = parseCidr(range);
  if (cidr === null) throw new RangeError(`${range} is not a range`);
  const bytes = Uint8Array.from(ipToBytes(cidr.ip));
  if (end)
    for (let bit = cidr.length; bit < bytes.length * 8; bit++)
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  return bytes;
}

const fieldLengths: Readonly<Record<Field, number>> = {
  ip4: 4,
  ip6: 16,
  range4: 4,
  range6: 16,
  proto: 4,
  port: 4,
  index: 4,
};
const fieldLength = (field: Field): number => fieldLengths[field];

/** The kernel pads each part of a concatenation to 4 bytes. A lone field is not padded, but no set of ours has a lone short one. */
const fieldsLength = (fields: readonly Field[]): number => fields.reduce((sum, field) => sum + fieldLength(field), 0);

/** Reads the element whose attributes lie between start and end; null when it is not of the layout's form. */
export function readElement(bytes: Buffer, start: number, end: number, layout: SetLayout): Element | null {
  let key: (string | number)[] | null = null;
  let keyEnd: number = -1;
  let value: Element['value'] = null;
  let comment: string | null = null;
  let keyAt = -1;
  eachAttribute(bytes, start, end, (type, from, to) => {
    if (type === ELEMENT_KEY) {
      keyAt = valueStart(bytes, from, to, fieldsLength(layout.key));
      key = keyAt < 0 ? null : readFields(bytes, keyAt, layout.key);
    } else if (type === ELEMENT_KEY_END) {
      keyEnd = valueStart(bytes, from, to, fieldsLength(layout.key));
    } else if (type === ELEMENT_DATA) {
      value = readData(bytes, from, to, layout);
    } else if (type === ELEMENT_USERDATA) {
      comment = commentIn(bytes, from, to, USERDATA_COMMENT);
    }
  });
  if (key === null) return null;
  const parts: (string | number)[] = key;
  if (layout.interval) {
    const range = keyEnd < 0 ? null : readRange(bytes, keyAt, keyEnd, layout.key);
    if (range === null) return null;
    parts[parts.length - 1] = range;
  }
  return { set: layout.name, key: parts, value, comment };
}

function readData(bytes: Buffer, start: number, end: number, layout: SetLayout): Element['value'] {
  let value: Element['value'] = null;
  eachAttribute(bytes, start, end, (type, from, to) => {
    if (type === DATA_VERDICT) value = readVerdict(bytes, from, to);
    else if (type === DATA_VALUE && Array.isArray(layout.value) && to - from === fieldsLength(layout.value)) {
      value = readFields(bytes, from, layout.value);
    }
  });
  return value;
}

/** Where the bytes of a NFTA_DATA_VALUE of this length begin, or -1. */
function valueStart(bytes: Buffer, start: number, end: number, length: number): number {
  let at = -1;
  eachAttribute(bytes, start, end, (type, from, to) => {
    if (type === DATA_VALUE && to - from === length) at = from;
  });
  return at;
}

function readFields(bytes: Buffer, start: number, fields: readonly Field[]): (string | number)[] {
  const values: (string | number)[] = [];
  let at = start;
  for (const field of fields) {
    values.push(readField(bytes, at, field));
    at += fieldLength(field);
  }
  return values;
}

function readField(bytes: Buffer, at: number, field: Field): string | number {
  switch (field) {
    case 'ip4':
    case 'range4':
      return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
    case 'ip6':
    case 'range6':
      return ipFromBytes(bytes.subarray(at, at + 16)) ?? '';
    case 'proto':
      return protocolNames.get(bytes[at] ?? 0) ?? `${bytes[at]}`;
    case 'port':
      return bytes.readUInt16BE(at);
    case 'index':
      return bytes.readUInt32LE(at);
  }
}

/** The prefix that the last field of both keys spans; null when it is none or the other fields differ. */
function readRange(bytes: Buffer, from: number, to: number, fields: readonly Field[]): string | null {
  const whole = fieldsLength(fields);
  const length = fieldLength(fields.at(-1) ?? 'range4');
  const rest = whole - length;
  if (bytes.compare(bytes, to, to + rest, from, from + rest) !== 0) return null;
  let prefix = length * 8;
  for (let bit = length * 8 - 1; bit >= 0; bit--) {
    const mask = 0x80 >> (bit & 7);
    const at = rest + (bit >> 3);
    const low = ((bytes[from + at] ?? 0) & mask) === 0;
    const high = ((bytes[to + at] ?? 0) & mask) !== 0;
    if (!low || !high) break;
    prefix = bit;
  }
  const ip = ipFromBytes(bytes.subarray(from + rest, from + whole));
  const range = `${ip}/${prefix}`;
  // The bits before the prefix are the same on both sides, or it is no prefix.
  return rangeBound(range, true).every((byte, i) => byte === bytes[to + rest + i]) ? range : null;
}
