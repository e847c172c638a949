import { familyOf, type Ip } from '@octoplane/model/address.ts';
import type { Family, Protocol } from '@octoplane/model/keys.ts';

/** What a virtual service answers to: an address and port, or packets that carry a mark, whatever their address. */
export type VirtualServiceId =
  | { readonly t: 'address'; readonly protocol: Protocol; readonly ip: Ip; readonly port: number }
  | { readonly t: 'mark'; readonly family: Family; readonly mark: number };

export interface VirtualService {
  readonly id: VirtualServiceId;
  /** Name of the scheduler: "rr". */
  readonly scheduler: string;
  /** How long a client stays with its destination after its last connection; 0: each connection is on its own. */
  readonly persistenceSeconds: number;
}

export interface Destination {
  readonly ip: Ip;
  readonly port: number;
  /** 0: no new connections. */
  readonly weight: number;
}

/** A destination with the connections that it has, as the kernel counts them. */
export interface BusyDestination extends Destination {
  readonly activeConnections: number;
  /** Being opened, or closed: TIME_WAIT included. */
  readonly inactiveConnections: number;
}

/** Equal ids are equal strings. */
export const idText = (id: VirtualServiceId): string =>
  id.t === 'mark' ? `mark ${id.mark} ${id.family}` : `${id.protocol} ${id.ip} ${id.port}`;

export const familyOfId = (id: VirtualServiceId): Family => (id.t === 'mark' ? id.family : familyOf(id.ip));

/** For messages to people: "TCP 10.96.0.1 port 80". */
export const describeId = (id: VirtualServiceId): string =>
  id.t === 'mark' ? `packets with mark ${id.mark}` : `${id.protocol} ${id.ip} port ${id.port}`;
