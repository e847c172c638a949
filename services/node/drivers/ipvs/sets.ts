import { type Cidr, type Ip, ipFromBytes, ipToBytes } from '@octoplane/model/address.ts';
import type { Family, Protocol } from '@octoplane/model/keys.ts';
import type { NetlinkError } from '../../netlink/errors.ts';
import { eachAttribute, flags, MessageWriter, textOf } from '../../netlink/message.ts';
import { NetlinkSocket, protocols } from '../../netlink/socket.ts';

/** IP sets over netlink: include/uapi/linux/netfilter/ipset/ip_set.h. */
const subsystem = 6;
const commands = { create: 2, destroy: 3, list: 7, add: 9, del: 10, test: 11 } as const;
const protocolVersion = 6;
const top = { protocol: 1, setName: 2, typeName: 3, revision: 4, family: 5, data: 7, elements: 8 } as const;
const data = {
  ip: 1,
  port: 4,
  protocol: 7,
  flags: 8,
  maxElements: 19,
  ip2: 20,
  cidr2: 21,
  comment: 26,
  skbMark: 27,
} as const;
const ipv4 = 1;
const ipv6 = 2;
const withComment = 1 << 4;
const withSkbInfo = 1 << 6;
const netByteOrder = 0x4000;
const typeMissing = 4098;
const elementIsThere = 4103;

/** Memory is taken for elements as they come, so the bound may be one that is never reached (ipset's own default is 65,536). */
const maxElements = 1 << 24;

/** The longest comment that the kernel takes, in bytes. */
export const maxCommentBytes = 255;

const addressFamilies: Readonly<Record<Family, number>> = { IPv4: 2, IPv6: 10 };
const protocolNumbers: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
const protocolNames = new Map(Object.entries(protocolNumbers).map(([name, number]) => [number, name as Protocol]));

/** The kernel's set types that are used here, each at the revision that every kernel since 4.2 knows. */
export const setTypes = {
  'hash:ip': { revision: 4 },
  'hash:ip,port': { revision: 5 },
  'hash:ip,port,net': { revision: 7 },
} as const;

export interface SetSpec {
  readonly name: string;
  readonly type: keyof typeof setTypes;
  readonly family: Family;
}

export interface SetElement {
  readonly ip: Ip;
  /** Where the set's type has ports. */
  readonly port?: number;
  readonly protocol?: Protocol;
  /** Where the set's type has a network. Its length is not 0: ipset has no such networks. */
  readonly net?: Cidr;
  readonly comment: string;
  /** What `--map-mark` puts on packets; 0: nothing. */
  readonly mark?: number;
}

export type SetRequest = {
  readonly t: 'add' | 'remove' | 'test';
  readonly set: SetSpec;
  readonly element: SetElement;
};

export interface SetRefusal {
  readonly request: SetRequest;
  readonly error: NetlinkError;
}

const requestsPerDatagram = 200;

/** The kernel's IP sets, in the network namespace in which this was opened. */
export class IpSets implements Disposable {
  readonly #socket: NetlinkSocket;
  readonly #writer = new MessageWriter();

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  static open(): IpSets {
    return new IpSets(NetlinkSocket.open(protocols.netfilter));
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  /** Returns whether it had to be made: a set that is there already is left as it is. @throws NetlinkError */
  create(spec: SetSpec): boolean {
    const [error] = this.#command(commands.create, spec, flags.create | flags.excl, (writer) => {
      writer.text(top.typeName, spec.type);
      writeU8(writer, top.revision, setTypes[spec.type].revision);
      writeU8(writer, top.family, addressFamilies[spec.family]);
      const nest = writer.beginNested(top.data);
      writer.u32be(data.flags | netByteOrder, withComment | (spec.type === 'hash:ip,port' ? withSkbInfo : 0));
      writer.u32be(data.maxElements | netByteOrder, maxElements);
      writer.endNested(nest);
    });
    if (error && error.code !== 'EEXIST') throw error;
    return error === undefined;
  }

  /** Absent is no error. @throws NetlinkError while a rule refers to the set */
  destroy(spec: SetSpec): void {
    const [error] = this.#command(commands.destroy, spec, 0, () => undefined);
    if (error && error.code !== 'ENOENT') throw error;
  }

  /** Null when there is no such set. */
  elements(spec: SetSpec): SetElement[] | null {
    const found: SetElement[] = [];
    this.#writer.reset();
    this.#begin(commands.list, spec, flags.request | flags.dump);
    this.#writer.end();
    try {
      this.#socket.dump(
        this.#writer.bytes,
        ({ body }) => readElements(body, spec, found),
        () => found.splice(0),
      );
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return null;
      throw error;
    }
    return found;
  }

  /**
   * Carries out every request, in order. What is added and there already takes the new comment and mark; what is removed and
   * absent is removed. A test is refused when the element is absent.
   */
  execute(requests: readonly SetRequest[]): SetRefusal[] {
    const refusals: SetRefusal[] = [];
    for (let first = 0; first < requests.length; first += requestsPerDatagram) {
      const batch = requests.slice(first, first + requestsPerDatagram);
      const bySequence = new Map<number, SetRequest>();
      this.#writer.reset();
      for (const request of batch) {
        bySequence.set(this.#begin(commandOf[request.t], request.set, flags.request), request);
        const nest = this.#writer.beginNested(top.data);
        writeElement(this.#writer, request.element, request.t === 'add');
        this.#writer.endNested(nest);
        this.#writer.end();
      }
      for (const error of this.#socket.exchange(this.#writer.bytes)) {
        const request = bySequence.get(error.sequence);
        if (!request) throw error;
        refusals.push({ request, error });
      }
    }
    return refusals;
  }

  #command(
    command: number,
    spec: SetSpec,
    messageFlags: number,
    write: (writer: MessageWriter) => void,
  ): NetlinkError[] {
    this.#writer.reset();
    this.#begin(command, spec, flags.request | messageFlags);
    write(this.#writer);
    this.#writer.end();
    return this.#socket.exchange(this.#writer.bytes);
  }

  #begin(command: number, spec: SetSpec, messageFlags: number): number {
    const sequence = this.#socket.nextSequence();
    this.#writer.begin((subsystem << 8) | command, messageFlags, sequence);
    this.#writer.raw(Uint8Array.of(addressFamilies[spec.family], 0, 0, 0));
    writeU8(this.#writer, top.protocol, protocolVersion);
    this.#writer.text(top.setName, spec.name);
    return sequence;
  }
}

export const isAbsentElement = (error: NetlinkError): boolean => error.errno === elementIsThere;

/** The kernel has no such type of set, or not in the revision asked for. */
export const isMissingType = (error: NetlinkError): boolean => error.errno === typeMissing;

const commandOf = { add: commands.add, remove: commands.del, test: commands.test } as const;

function writeElement(writer: MessageWriter, element: SetElement, whole: boolean): void {
  writeIp(writer, data.ip, element.ip);
  if (element.port !== undefined && element.protocol !== undefined) {
    const at = writer.reserve(data.port | netByteOrder, 2);
    writer.target.writeUInt16BE(element.port, at);
    writeU8(writer, data.protocol, protocolNumbers[element.protocol]);
  }
  if (element.net) {
    writeIp(writer, data.ip2, element.net.ip);
    writeU8(writer, data.cidr2, element.net.length);
  }
  if (!whole) return;
  writer.text(data.comment, element.comment);
  if (element.mark) {
    const at = writer.reserve(data.skbMark | netByteOrder, 8);
    writer.target.writeUInt32BE(element.mark, at);
    writer.target.writeUInt32BE(0xffff_ffff, at + 4);
  }
}

function readElements(body: Buffer, spec: SetSpec, into: SetElement[]): void {
  const headerLength = 4;
  eachAttribute(body, headerLength, body.length, (type, start, end) => {
    if (type !== top.elements) return;
    eachAttribute(body, start, end, (_, from, to) => into.push(readElement(body, from, to, spec)));
  });
}

function readElement(body: Buffer, from: number, to: number, spec: SetSpec): SetElement {
  let ip = '';
  let netIp = '';
  let length = spec.family === 'IPv4' ? 32 : 128;
  let port = 0;
  let protocol: Protocol = 'TCP';
  let comment = '';
  let mark = 0;
  eachAttribute(body, from, to, (type, start, end) => {
    if (type === data.ip) ip = readIp(body, start, end);
    else if (type === data.ip2) netIp = readIp(body, start, end);
    else if (type === data.cidr2) length = body.readUInt8(start);
    else if (type === data.port) port = body.readUInt16BE(start);
    else if (type === data.protocol) protocol = protocolNames.get(body.readUInt8(start)) ?? 'TCP';
    else if (type === data.comment) comment = textOf(body, start, end);
    else if (type === data.skbMark) mark = body.readUInt32BE(start);
  });
  if (spec.type === 'hash:ip') return { ip, comment };
  if (spec.type === 'hash:ip,port') return { ip, port, protocol, comment, mark };
  return { ip, port, protocol, net: { ip: netIp, length }, comment };
}

function writeIp(writer: MessageWriter, type: number, ip: Ip): void {
  const nest = writer.beginNested(type);
  const bytes = ipToBytes(ip);
  writer.attribute((bytes.length === 4 ? ipv4 : ipv6) | netByteOrder, bytes);
  writer.endNested(nest);
}

function readIp(body: Buffer, start: number, end: number): Ip {
  let ip = '';
  eachAttribute(body, start, end, (_, from, to) => {
    ip = ipFromBytes(body.subarray(from, to)) ?? '';
  });
  return ip;
}

function writeU8(writer: MessageWriter, type: number, value: number): void {
  const at = writer.reserve(type, 1);
  writer.target.writeUInt8(value, at);
}

const codeOf = (error: unknown): unknown =>
  typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
