import { familyOf, type Ip, ipFromBytes, ipToBytes } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import type { Connection } from '../drivers/driver.ts';
import { NetlinkError } from '../netlink/errors.ts';
import { eachAttribute, flags, type Message, MessageWriter } from '../netlink/message.ts';
import { NetlinkSocket, protocols } from '../netlink/socket.ts';
import type { Flow } from './stale.ts';

/** include/uapi/linux/netfilter/nfnetlink_conntrack.h */
const subsystem = 1 << 8;
const messages = { new: subsystem, get: subsystem | 1, delete: subsystem | 2 } as const;
const attributes = {
  original: 1,
  reply: 2,
  status: 3,
  protocolInfo: 4,
  timeout: 7,
  id: 12,
  zone: 18,
  filter: 25,
  statusMask: 26,
} as const;
const tcpInfo = { tcp: 1, state: 1, originalFlags: 4, replyFlags: 5 } as const;
/** include/uapi/linux/netfilter/nf_conntrack_common.h: IPS_SRC_NAT and IPS_DST_NAT; SEEN_REPLY, ASSURED and CONFIRMED. */
const translations = [16, 32];
const established = 2 | 4 | 8;
/** include/uapi/linux/netfilter/nf_conntrack_tcp.h */
const tcpEstablished = 3;
const tcpBeLiberal = 8;
/** As the daemon sets it for connections that conntrack has seen (options.ts), and as the kernel has it for UDP streams. */
const tcpTimeoutSeconds = 86_400;
const udpTimeoutSeconds = 120;
const tupleAttributes = { ip: 1, proto: 2 } as const;
const ipAttributes = { sourceV4: 1, destinationV4: 2, sourceV6: 3, destinationV6: 4 } as const;
const protoAttributes = { number: 1, sourcePort: 2, destinationPort: 3 } as const;
const filterAttributes = { originalFlags: 1, replyFlags: 2 } as const;
/** Bits of the filter flags, which the kernel keeps in its own header nf_internals.h: they are part of its interface all the same. */
const filterFlags = { ipSource: 1, ipDestination: 2, protoNumber: 8, sourcePort: 16, destinationPort: 32 } as const;

const tcp = 6;
const udp = 17;
const addressFamilies = { IPv4: 2, IPv6: 10 } as const;

/** A flow with what it takes to delete it, and no other that has taken its place since. */
export interface ListedFlow extends Flow {
  readonly family: Family;
  readonly id: Buffer;
  readonly zone: Buffer | null;
}

/** What the kernel is to compare; null: anything. */
export interface FlowFilter {
  readonly family: Family;
  readonly destination: Ip | null;
  readonly destinationPort: number | null;
  readonly answers: Ip | null;
  readonly answersPort: number | null;
}

/** Connections, UDP flows above all, of the network namespace in which it was opened. Needs CAP_NET_ADMIN and nf_conntrack_netlink. */
export class Conntrack implements Disposable {
  readonly #socket: NetlinkSocket;
  readonly #writer = new MessageWriter(4096);

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** @throws NetlinkError */
  static open(): Conntrack {
    return new Conntrack(NetlinkSocket.open(protocols.netfilter));
  }

  /**
   * The kernel walks its table, compares, and hands out only what matches (CTA_FILTER, Linux 5.8), or more: before that it
   * ignores the filter, and for IPv6 it is not asked about addresses, because up to 6.18 at least it then hands out those that differ
   * (ctnetlink_filter_match_tuple takes ipv6_addr_cmp for a test of equality). The caller compares again.
   * @throws NetlinkError
   */
  list(filter: FlowFilter): ListedFlow[] {
    let found: ListedFlow[] = [];
    const writer = this.#writer;
    writer.reset();
    writer.begin(messages.get, flags.request | flags.dump, this.#socket.nextSequence());
    writer.raw(header(filter.family));
    this.#filter(filter);
    writer.end();
    this.#socket.dump(
      writer.bytes,
      (message) => {
        const flow = flowIn(message, filter.family);
        if (flow) found.push(flow);
      },
      () => {
        found = [];
      },
    );
    return found;
  }

  /**
   * Is there any connection, of whatever protocol, that has another address or port than its ends say? Whoever made the rule for it.
   * @throws NetlinkError
   */
  translates(): boolean {
    return (['IPv4', 'IPv6'] as const).some((family) => translations.some((status) => this.#any(family, status)));
  }

  /**
   * Enters connections that conntrack has not seen begin. Those that it knows stay as they are.
   * @throws NetlinkError
   */
  track(connections: readonly Connection[]): void {
    for (let i = 0; i < connections.length; i += 64) {
      const writer = this.#writer;
      writer.reset();
      for (const connection of connections.slice(i, i + 64)) this.#enter(connection);
      const real = this.#socket.exchange(writer.bytes).find(({ code }) => code !== 'EEXIST');
      if (real) throw real;
    }
  }

  /** Returns how many were still there. @throws NetlinkError */
  delete(flows: readonly ListedFlow[]): number {
    let deleted = 0;
    for (let i = 0; i < flows.length; i += 64) {
      const batch = flows.slice(i, i + 64);
      const writer = this.#writer;
      writer.reset();
      for (const flow of batch) {
        writer.begin(messages.delete, flags.request | flags.ack, this.#socket.nextSequence());
        writer.raw(header(flow.family));
        this.#tuple(attributes.original, flow.family, {
          source: flow.source,
          destination: flow.destination,
          sourcePort: flow.sourcePort,
          destinationPort: flow.destinationPort,
        });
        writer.attribute(attributes.id, flow.id);
        if (flow.zone) writer.attribute(attributes.zone, flow.zone);
        writer.end();
      }
      const refusals = this.#socket.exchange(writer.bytes);
      const real = refusals.find(({ code }) => code !== 'ENOENT');
      if (real) throw real;
      deleted += batch.length - refusals.length;
    }
    return deleted;
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  #any(family: Family, status: number): boolean {
    let found = false;
    const writer = this.#writer;
    writer.reset();
    writer.begin(messages.get, flags.request | flags.dump, this.#socket.nextSequence());
    writer.raw(header(family));
    // The kernel compares (Linux 5.15), or hands out everything: hence the second look.
    writer.u32be(attributes.status, status);
    writer.u32be(attributes.statusMask, status);
    writer.end();
    this.#socket.dump(
      writer.bytes,
      ({ body }) => {
        eachAttribute(body, 4, body.length, (type, start) => {
          if (type === attributes.status && (body.readUInt32BE(start) & status) !== 0) found = true;
        });
      },
      () => {
        found = false;
      },
    );
    return found;
  }

  #enter({ protocol, source, sourcePort, destination, destinationPort }: Connection): void {
    const family = familyOf(source);
    const number = protocol === 'TCP' ? tcp : udp;
    const writer = this.#writer;
    writer.begin(messages.new, flags.request | flags.ack | flags.create | flags.excl, this.#socket.nextSequence());
    writer.raw(header(family));
    this.#tuple(attributes.original, family, { source, destination, sourcePort, destinationPort }, number);
    const reply = {
      source: destination,
      destination: source,
      sourcePort: destinationPort,
      destinationPort: sourcePort,
    };
    this.#tuple(attributes.reply, family, reply, number);
    writer.u32be(attributes.status, established);
    writer.u32be(attributes.timeout, protocol === 'TCP' ? tcpTimeoutSeconds : udpTimeoutSeconds);
    if (protocol === 'TCP') {
      const info = writer.beginNested(attributes.protocolInfo);
      const own = writer.beginNested(tcpInfo.tcp);
      writer.attribute(tcpInfo.state, Uint8Array.of(tcpEstablished));
      // Flags and their mask: where its windows are, nobody has seen.
      writer.attribute(tcpInfo.originalFlags, Uint8Array.of(tcpBeLiberal, tcpBeLiberal));
      writer.attribute(tcpInfo.replyFlags, Uint8Array.of(tcpBeLiberal, tcpBeLiberal));
      writer.endNested(own);
      writer.endNested(info);
    }
    writer.end();
  }

  #filter(filter: FlowFilter): void {
    const { family, destinationPort, answersPort } = filter;
    const [destination, answers] = family === 'IPv4' ? [filter.destination, filter.answers] : [null, null];
    this.#tuple(attributes.original, family, { source: null, destination, sourcePort: null, destinationPort });
    this.#tuple(attributes.reply, family, {
      source: answers,
      destination: null,
      sourcePort: answersPort,
      destinationPort: null,
    });
    const writer = this.#writer;
    const nested = writer.beginNested(attributes.filter);
    writer.attribute(
      filterAttributes.originalFlags,
      u32(
        filterFlags.protoNumber |
          (destination === null ? 0 : filterFlags.ipDestination) |
          (destinationPort === null ? 0 : filterFlags.destinationPort),
      ),
    );
    writer.attribute(
      filterAttributes.replyFlags,
      u32(
        filterFlags.protoNumber |
          (answers === null ? 0 : filterFlags.ipSource) |
          (answersPort === null ? 0 : filterFlags.sourcePort),
      ),
    );
    writer.endNested(nested);
  }

  #tuple(type: number, family: Family, tuple: Tuple, protocol = udp): void {
    const writer = this.#writer;
    const outer = writer.beginNested(type);
    const v4 = family === 'IPv4';
    if (tuple.source !== null || tuple.destination !== null) {
      const ip = writer.beginNested(tupleAttributes.ip);
      if (tuple.source !== null)
        writer.attribute(v4 ? ipAttributes.sourceV4 : ipAttributes.sourceV6, ipToBytes(tuple.source));
      if (tuple.destination !== null)
        writer.attribute(v4 ? ipAttributes.destinationV4 : ipAttributes.destinationV6, ipToBytes(tuple.destination));
      writer.endNested(ip);
    }
    const proto = writer.beginNested(tupleAttributes.proto);
    writer.attribute(protoAttributes.number, Uint8Array.of(protocol));
    if (tuple.sourcePort !== null) writer.attribute(protoAttributes.sourcePort, u16be(tuple.sourcePort));
    if (tuple.destinationPort !== null) writer.attribute(protoAttributes.destinationPort, u16be(tuple.destinationPort));
    writer.endNested(proto);
    writer.endNested(outer);
  }
}

interface Tuple {
  readonly source: Ip | null;
  readonly destination: Ip | null;
  readonly sourcePort: number | null;
  readonly destinationPort: number | null;
}

/** struct nfgenmsg: family, version 0, resource 0. */
const header = (family: Family): Uint8Array => Uint8Array.of(addressFamilies[family], 0, 0, 0);

const u32 = (value: number): Uint8Array => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

const u16be = (value: number): Uint8Array => Uint8Array.of(value >> 8, value & 0xff);

/** Null for what is no UDP flow: kernels before 5.8 do not filter. */
function flowIn({ body }: Message, family: Family): ListedFlow | null {
  let original: (Tuple & { readonly protocol: number }) | null = null;
  let reply: (Tuple & { readonly protocol: number }) | null = null;
  let id: Buffer | null = null;
  let zone: Buffer | null = null;
  eachAttribute(body, 4, body.length, (type, start, end) => {
    if (type === attributes.original) original = tupleIn(body, start, end);
    else if (type === attributes.reply) reply = tupleIn(body, start, end);
    else if (type === attributes.id) id = Buffer.from(body.subarray(start, end));
    else if (type === attributes.zone) zone = Buffer.from(body.subarray(start, end));
  });
  return joined(original, reply, id, zone, family);
}

function joined(
  original: (Tuple & { readonly protocol: number }) | null,
  reply: Tuple | null,
  id: Buffer | null,
  zone: Buffer | null,
  family: Family,
): ListedFlow | null {
  if (original?.protocol !== udp || reply === null || id === null) return null;
  const { source, destination, sourcePort, destinationPort } = original;
  if (source === null || destination === null || sourcePort === null || destinationPort === null) return null;
  if (reply.source === null || reply.sourcePort === null || reply.destination === null) return null;
  return {
    family,
    source,
    sourcePort,
    destination,
    destinationPort,
    answers: reply.source,
    answersPort: reply.sourcePort,
    answersTo: reply.destination,
    id,
    zone,
  };
}

function tupleIn(body: Buffer, start: number, end: number): Tuple & { readonly protocol: number } {
  const tuple: { -readonly [K in keyof Tuple]: Tuple[K] } & { protocol: number } = {
    source: null,
    destination: null,
    sourcePort: null,
    destinationPort: null,
    protocol: 0,
  };
  eachAttribute(body, start, end, (group, from, to) => {
    eachAttribute(body, from, to, (type, at, stop) => {
      if (group === tupleAttributes.ip) {
        const ip = ipFromBytes(body.subarray(at, stop));
        if (type === ipAttributes.sourceV4 || type === ipAttributes.sourceV6) tuple.source = ip;
        else tuple.destination = ip;
      } else if (group === tupleAttributes.proto) {
        if (type === protoAttributes.number) tuple.protocol = body.readUInt8(at);
        else if (type === protoAttributes.sourcePort) tuple.sourcePort = body.readUInt16BE(at);
        else if (type === protoAttributes.destinationPort) tuple.destinationPort = body.readUInt16BE(at);
      }
    });
  });
  return tuple;
}

/** What the machine lacks, in a sentence; null: nothing. */
export function conntrackProblem(error: unknown): string {
  if (!(error instanceof NetlinkError)) return String(error);
  return error.code === 'EPERM'
    ? 'CAP_NET_ADMIN is missing'
    : `nf_conntrack_netlink does not answer (${error.message}): modprobe nf_conntrack_netlink`;
}
