import { type Ip, ipFromBytes, ipToBytes } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import type { NetlinkError } from '../../netlink/errors.ts';
import { eachAttribute, flags, MessageWriter, textOf } from '../../netlink/message.ts';
import { NetlinkSocket, protocols } from '../../netlink/socket.ts';

/** include/uapi/linux/rtnetlink.h, if_link.h */
const types = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  newAddress: 20,
  delAddress: 21,
  getAddress: 22,
  newRoute: 24,
  delRoute: 25,
  getRoute: 26,
} as const;
const linkAttributes = { name: 3, mtu: 4, linkInfo: 18, kind: 1 } as const;
const addressAttributes = { address: 1, local: 2, flags: 8 } as const;
const routeAttributes = { destination: 1, outInterface: 4, metrics: 8, mtu: 2, table: 15 } as const;
const groups = { link: 1, ipv4Address: 5, ipv4Route: 7, ipv6Address: 9, ipv6Route: 11 } as const;
const iffUp = 1;
const iffLoopback = 8;
const localTable = 255;
const localType = 2;
const scopes = { universe: 0, link: 253, host: 254 } as const;
/** Who made a route (rtm_protocol): ours show as "proto 79" in `ip route show table local`. */
const ourProtocol = 79;
const addressFamilies: Readonly<Record<Family, number>> = { IPv4: 2, IPv6: 10 };
const linkHeaderLength = 16;
const addressHeaderLength = 8;
const routeHeaderLength = 12;
const requestsPerDatagram = 200;

export const deviceName = 'octo-ipvs0';

/** An address of the node itself. */
export interface NodeAddress {
  readonly ip: Ip;
  readonly device: number;
}

/**
 * Where service addresses become this node's own, as IPVS needs them: a dummy device, and a route of type `local` to it for each
 * address. An address on the device would do as well, but the kernel walks all addresses of a device to add one, other programs
 * would take ten thousand of them for addresses of the node, and IPv6 would announce each of them to the neighbours.
 */
export class ServiceDevice implements Disposable {
  readonly #socket: NetlinkSocket;
  readonly #writer = new MessageWriter();
  /** The largest packet that every way out of this node takes; 0: not known. */
  #mtu = 0;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  static open(): ServiceDevice {
    const socket = NetlinkSocket.open(protocols.route);
    socket.strict();
    return new ServiceDevice(socket);
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  /** Index of the device; 0: there is none, or it is down. */
  index(): number {
    let index = 0;
    this.#begin(types.getLink, flags.request, Buffer.alloc(linkHeaderLength));
    this.#writer.text(linkAttributes.name, deviceName);
    this.#writer.end();
    const [error] = this.#socket.exchange(this.#writer.bytes, ({ body }) => {
      if ((body.readUInt32LE(8) & iffUp) !== 0) index = body.readInt32LE(4);
    });
    if (error && error.code !== 'ENODEV') throw error;
    return index;
  }

  /** Makes the device, or takes it up. @throws NetlinkError EOPNOTSUPP when the kernel has no dummy devices */
  create(): number {
    const header = Buffer.alloc(linkHeaderLength);
    header.writeUInt32LE(iffUp, 8);
    header.writeUInt32LE(iffUp, 12);
    this.#begin(types.newLink, flags.request | flags.create, header);
    this.#writer.text(linkAttributes.name, deviceName);
    const info = this.#writer.beginNested(linkAttributes.linkInfo);
    this.#writer.text(linkAttributes.kind, 'dummy');
    this.#writer.endNested(info);
    this.#writer.end();
    const [error] = this.#socket.exchange(this.#writer.bytes);
    if (error) throw error;
    return this.index();
  }

  /** And all routes to it. Absent is no error. */
  remove(): void {
    this.#begin(types.delLink, flags.request, Buffer.alloc(linkHeaderLength));
    this.#writer.text(linkAttributes.name, deviceName);
    this.#writer.end();
    const [error] = this.#socket.exchange(this.#writer.bytes);
    if (error && error.code !== 'ENODEV') throw error;
  }

  /**
   * What routes are made with from now on. To a local address the kernel sends packets as large as its loopback takes, and asks
   * that they are not fragmented; when IPVS then finds that the endpoint's device takes less, a client on this node loses its
   * first large datagram to each service.
   */
  measure(): void {
    let least = 0;
    this.#begin(types.getLink, flags.request | flags.dump, Buffer.alloc(linkHeaderLength));
    this.#writer.end();
    this.#socket.dump(
      this.#writer.bytes,
      ({ body }) => {
        const { name, mtu } = readLink(body);
        const isWayOut = (body.readUInt32LE(8) & (iffUp | iffLoopback)) === iffUp && name !== deviceName;
        if (isWayOut && mtu > 0) least = least === 0 ? mtu : Math.min(least, mtu);
      },
      () => {
        least = 0;
      },
    );
    this.#mtu = least;
  }

  /** Makes addresses local, or no longer so. What is so already stays. @returns the first refusal */
  change(what: 'add' | 'remove', ips: readonly Ip[], device: number): NetlinkError | null {
    for (let first = 0; first < ips.length; first += requestsPerDatagram) {
      this.#writer.reset();
      for (const ip of ips.slice(first, first + requestsPerDatagram)) this.#writeRoute(what, ip, device);
      const refusal = this.#socket
        .exchange(this.#writer.bytes)
        .find(({ code }) => code !== 'EEXIST' && code !== 'ESRCH' && code !== 'ENODEV');
      if (refusal) return refusal;
    }
    return null;
  }

  /** Is the address local through the device? Asks the kernel for this one route. */
  has(ip: Ip, device: number): boolean {
    const family: Family = ip.includes(':') ? 'IPv6' : 'IPv4';
    const header = routeHeader(family, 0);
    header.writeUInt8(family === 'IPv4' ? 32 : 128, 1);
    header.writeUInt32LE(fibMatch, 8);
    this.#begin(types.getRoute, flags.request, header);
    this.#writer.attribute(routeAttributes.destination, ipToBytes(ip));
    this.#writer.end();
    let found = false;
    const [error] = this.#socket.exchange(this.#writer.bytes, ({ body }) => {
      if (body.readUInt8(7) !== localType) return;
      eachAttribute(body, routeHeaderLength, body.length, (type, start) => {
        if (type === routeAttributes.outInterface && body.readInt32LE(start) === device) found = true;
      });
    });
    if (error && error.code !== 'ENETUNREACH' && error.code !== 'EHOSTUNREACH') throw error;
    return found;
  }

  /** Addresses that are local through the device. */
  addresses(device: number): Set<Ip> {
    const found = new Set<Ip>();
    for (const family of ['IPv4', 'IPv6'] as const) {
      this.#begin(types.getRoute, flags.request | flags.dump, routeHeader(family, 0));
      this.#writer.target.writeInt32LE(device, this.#writer.reserve(routeAttributes.outInterface, 4));
      const at = this.#writer.reserve(routeAttributes.table, 4);
      this.#writer.target.writeUInt32LE(localTable, at);
      this.#writer.end();
      this.#dumpRoutes((ip) => found.add(ip));
    }
    return found;
  }

  #dumpRoutes(visit: (ip: Ip) => void): void {
    try {
      this.#socket.dump(
        this.#writer.bytes,
        ({ body }) => {
          if (body.readUInt8(5) !== ourProtocol) return;
          eachAttribute(body, routeHeaderLength, body.length, (type, start, end) => {
            const ip = type === routeAttributes.destination ? ipFromBytes(body.subarray(start, end)) : null;
            if (ip !== null) visit(ip);
          });
        },
        () => undefined,
      );
    } catch (error) {
      // IPv6 is off, or the local table is still empty.
      if (!isErrno(error, 'ENOENT') && !isErrno(error, 'EOPNOTSUPP') && !isErrno(error, 'ENODEV')) throw error;
    }
  }

  /**
   * The node's own addresses, on which node ports may answer: not those of loopback devices, nor those that are only good on
   * one link.
   */
  nodeAddresses(): NodeAddress[] {
    const loopbacks = new Set<number>();
    this.#begin(types.getLink, flags.request | flags.dump, Buffer.alloc(linkHeaderLength));
    this.#writer.end();
    this.#socket.dump(
      this.#writer.bytes,
      ({ body }) => {
        if ((body.readUInt32LE(8) & iffLoopback) !== 0) loopbacks.add(body.readInt32LE(4));
      },
      () => loopbacks.clear(),
    );
    const found = new Map<Ip, NodeAddress>();
    this.#begin(types.getAddress, flags.request | flags.dump, Buffer.alloc(addressHeaderLength));
    this.#writer.end();
    this.#socket.dump(
      this.#writer.bytes,
      ({ body }) => {
        const device = body.readInt32LE(4);
        if (loopbacks.has(device) || body.readUInt8(3) >= scopes.link) return;
        const ip = readAddress(body);
        if (ip !== null) found.set(ip, { ip, device });
      },
      () => found.clear(),
    );
    return [...found.values()];
  }

  /** Through which device, and so with which addresses, this node reaches the world; 0: it does not. */
  defaultDevice(family: Family): number {
    let device = 0;
    this.#begin(types.getRoute, flags.request | flags.dump, routeHeader(family, 0));
    this.#writer.end();
    let metric = Number.POSITIVE_INFINITY;
    this.#socket.dump(
      this.#writer.bytes,
      ({ body }) => {
        if (body.readUInt8(1) !== 0 || body.readUInt8(7) !== unicastType) return;
        let out = 0;
        let priority = 0;
        eachAttribute(body, routeHeaderLength, body.length, (type, start) => {
          if (type === routeAttributes.outInterface) out = body.readInt32LE(start);
          else if (type === priorityAttribute) priority = body.readUInt32LE(start);
        });
        if (out === 0 || priority >= metric) return;
        device = out;
        metric = priority;
      },
      () => {
        device = 0;
        metric = Number.POSITIVE_INFINITY;
      },
    );
    return device;
  }

  /** Calls back when somebody else touched the device, a route to it, or an address of the node. */
  watch(onDisturbed: (what: string) => void, signal: AbortSignal): void {
    const listener = NetlinkSocket.open(protocols.route);
    const own = this.#socket.port;
    signal.addEventListener('abort', () => listener[Symbol.dispose](), { once: true });
    listener.subscribe(
      Object.values(groups),
      {
        onMessage: ({ type, port, body }) => {
          if (port === own) return;
          const isAddress = type === types.newAddress || type === types.delAddress;
          // The kernel gives our device an address for its own link.
          if (isAddress && body.readInt32LE(4) === this.index()) return;
          const what = disturbance(type, body);
          if (what !== null) onDisturbed(what);
        },
        onLost: () => onDisturbed('more changes of addresses and routes than could be followed'),
      },
      signal,
    );
  }

  #writeRoute(what: 'add' | 'remove', ip: Ip, device: number): void {
    const family: Family = ip.includes(':') ? 'IPv6' : 'IPv4';
    const messageFlags = what === 'add' ? flags.request | flags.create | flags.excl : flags.request;
    this.#writer.begin(what === 'add' ? types.newRoute : types.delRoute, messageFlags, this.#socket.nextSequence());
    this.#writer.raw(routeHeader(family, family === 'IPv4' ? 32 : 128));
    this.#writer.attribute(routeAttributes.destination, ipToBytes(ip));
    const at = this.#writer.reserve(routeAttributes.outInterface, 4);
    this.#writer.target.writeInt32LE(device, at);
    if (what === 'add' && this.#mtu > 0) {
      const metrics = this.#writer.beginNested(routeAttributes.metrics);
      const mtuAt = this.#writer.reserve(routeAttributes.mtu, 4);
      this.#writer.target.writeUInt32LE(this.#mtu, mtuAt);
      this.#writer.endNested(metrics);
    }
    this.#writer.end();
  }

  #begin(type: number, messageFlags: number, header: Uint8Array): void {
    this.#writer.reset();
    this.#writer.begin(type, messageFlags, this.#socket.nextSequence());
    this.#writer.raw(header);
  }
}

/** RTM_F_FIB_MATCH: the route itself, not where a packet would go. */
const fibMatch = 0x2000;
const unicastType = 1;
const priorityAttribute = 6;

/** struct rtmsg of a local route, or with length 0 of a question for one. */
function routeHeader(family: Family, length: number): Buffer {
  const header = Buffer.alloc(routeHeaderLength);
  header.writeUInt8(addressFamilies[family], 0);
  if (length === 0) return header;
  header.writeUInt8(length, 1);
  header.writeUInt8(localTable, 4);
  header.writeUInt8(ourProtocol, 5);
  header.writeUInt8(family === 'IPv4' ? scopes.host : scopes.universe, 6);
  header.writeUInt8(localType, 7);
  return header;
}

function readLink(body: Buffer): { readonly name: string; readonly mtu: number } {
  let name = '';
  let mtu = 0;
  eachAttribute(body, linkHeaderLength, body.length, (type, start, end) => {
    if (type === linkAttributes.name) name = textOf(body, start, end);
    else if (type === linkAttributes.mtu) mtu = body.readUInt32LE(start);
  });
  return { name, mtu };
}

function readAddress(body: Buffer): Ip | null {
  let ip: Ip | null = null;
  eachAttribute(body, addressHeaderLength, body.length, (type, start, end) => {
    // On point-to-point links IFA_ADDRESS is the other end's.
    if (type === addressAttributes.local || (type === addressAttributes.address && ip === null))
      ip = ipFromBytes(body.subarray(start, end));
  });
  return ip;
}

/** What a notification means for us; null: nothing. */
function disturbance(type: number, body: Buffer): string | null {
  if (type === types.newAddress || type === types.delAddress) return 'an address of this node came or went';
  if (type === types.delRoute && body.readUInt8(5) === ourProtocol) return 'a route to a service address was removed';
  if (type !== types.delLink && type !== types.newLink) return null;
  if (readLink(body).name !== deviceName) return null;
  const gone = type === types.delLink || (body.readUInt32LE(8) & iffUp) === 0;
  return gone ? `the device ${deviceName} was removed or taken down` : null;
}

const isErrno = (error: unknown, code: string): boolean =>
  typeof error === 'object' && error !== null && 'code' in error && error.code === code;
