import { type Ip, ipFromBytes } from '@octoplane/model/address.ts';
import { eachAttribute, flags, MessageWriter, textOf } from '../../netlink/message.ts';
import { NetlinkSocket, protocols } from '../../netlink/socket.ts';

/** A network device of the namespace that the driver was opened in. */
export interface Device {
  readonly index: number;
  readonly name: string;
  /** Its packets begin with an Ethernet header, as the packet programs expect. */
  readonly ethernet: boolean;
  /** Without link-local IPv6 addresses, which name no host by themselves. */
  readonly addresses: readonly Ip[];
}

/** include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h, if_arp.h */
const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_GETADDR = 22;
const IFLA_IFNAME = 3;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const ARPHRD_ETHER = 1;
const RTNLGRP_LINK = 1;
const RTNLGRP_IPV4_IFADDR = 5;
const RTNLGRP_IPV6_IFADDR = 9;

/** Reads and follows devices. Its sockets stay in the network namespace that they were opened in. */
export class Devices implements Disposable {
  readonly #requests = NetlinkSocket.open(protocols.route);
  readonly #events = NetlinkSocket.open(protocols.route);

  read(): readonly Device[] {
    const addresses = new Map<number, Ip[]>();
    this.#dump(RTM_GETADDR, 8, (type, body) => {
      const address = type === RTM_NEWADDR ? addressIn(body) : null;
      // Index 0: the dump began anew.
      if (type === 0) addresses.clear();
      if (address === null || address.startsWith('fe80:')) return;
      const index = body.readUInt32LE(4);
      addresses.set(index, [...(addresses.get(index) ?? []), address]);
    });
    const devices = new Map<number, Device>();
    this.#dump(RTM_GETLINK, 16, (type, body) => {
      if (type === 0) devices.clear();
      if (type !== RTM_NEWLINK) return;
      const index = body.readInt32LE(4);
      devices.set(index, {
        index,
        name: nameIn(body),
        ethernet: body.readUInt16LE(2) === ARPHRD_ETHER,
        addresses: addresses.get(index) ?? [],
      });
    });
    return [...devices.values()];
  }

  /** Calls back when devices or addresses came or went. */
  follow(onChange: () => void, signal: AbortSignal): void {
    const groups = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR];
    this.#events.subscribe(groups, { onMessage: onChange, onLost: onChange }, signal);
  }

  [Symbol.dispose](): void {
    this.#requests[Symbol.dispose]();
    this.#events[Symbol.dispose]();
  }

  /** `visit` is called with type 0 when the dump begins anew. */
  #dump(request: number, headerBytes: number, visit: (type: number, body: Buffer) => void): void {
    const writer = new MessageWriter(64);
    writer.begin(request, flags.request | flags.dump, this.#requests.nextSequence());
    writer.raw(Buffer.alloc(headerBytes));
    writer.end();
    this.#requests.dump(
      writer.bytes,
      ({ type, body }) => visit(type, body),
      () => visit(0, Buffer.alloc(0)),
    );
  }
}

function nameIn(body: Buffer): string {
  let name = '';
  eachAttribute(body, 16, body.length, (type, start, end) => {
    if (type === IFLA_IFNAME) name = textOf(body, start, end);
  });
  return name;
}

/** The device's own address: IFA_LOCAL where there is one, since IFA_ADDRESS is then the other end's. */
function addressIn(body: Buffer): Ip | null {
  let own: Ip | null = null;
  let hasLocal = false;
  eachAttribute(body, 8, body.length, (type, start, end) => {
    if (type !== IFA_LOCAL && (type !== IFA_ADDRESS || hasLocal)) return;
    own = ipFromBytes(body.subarray(start, end));
    hasLocal ||= type === IFA_LOCAL;
  });
  return own;
}
