import type { NetlinkError } from '../../netlink/errors.ts';
import { beginGeneric, genericFamily, genericHeaderLength } from '../../netlink/generic.ts';
import { flags, MessageWriter } from '../../netlink/message.ts';
import { NetlinkSocket, protocols } from '../../netlink/socket.ts';
import {
  commands,
  type FoundService,
  familyName,
  readDestination,
  readService,
  type Timeouts,
  writeDestination,
  writeService,
  writeServiceId,
  writeTimeouts,
} from './protocol.ts';
import {
  type BusyDestination,
  type Destination,
  familyOfId,
  type VirtualService,
  type VirtualServiceId,
} from './virtual-service.ts';

export type TableRequest =
  | { readonly t: 'new-service' | 'set-service'; readonly service: VirtualService }
  | { readonly t: 'delete-service'; readonly id: VirtualServiceId }
  | {
      readonly t: 'new-destination' | 'set-destination' | 'delete-destination';
      readonly id: VirtualServiceId;
      readonly destination: Destination;
    };

export interface TableRefusal {
  readonly request: TableRequest;
  readonly error: NetlinkError;
}

/** Refusals wait in the receive queue until the datagram has been worked through; so many of them always fit. */
const requestsPerDatagram = 200;

/** The kernel's table of virtual services, in the network namespace in which it was opened. */
export class IpvsTable implements Disposable {
  readonly #socket: NetlinkSocket;
  readonly #family: number;
  readonly #writer = new MessageWriter();

  private constructor(socket: NetlinkSocket, family: number) {
    this.#socket = socket;
    this.#family = family;
  }

  /** @throws NetlinkError ENOENT when the kernel has no IPVS. */
  static open(): IpvsTable {
    const socket = NetlinkSocket.open(protocols.generic);
    try {
      return new IpvsTable(socket, genericFamily(socket, familyName));
    } catch (error) {
      socket[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  /** Carries out every request, in order; those refused are returned, and do not keep the others from being carried out. */
  execute(requests: readonly TableRequest[]): TableRefusal[] {
    const refusals: TableRefusal[] = [];
    for (let first = 0; first < requests.length; first += requestsPerDatagram) {
      const batch = requests.slice(first, first + requestsPerDatagram);
      const bySequence = new Map<number, TableRequest>();
      this.#writer.reset();
      for (const request of batch) {
        bySequence.set(this.#begin(commandOf[request.t], flags.request), request);
        writeRequest(this.#writer, request);
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

  /** Every virtual service, ours or not, but those of protocols that no Service has. */
  services(): FoundService[] {
    const found: FoundService[] = [];
    this.#writer.reset();
    this.#begin(commands.getService, flags.request | flags.dump);
    this.#writer.end();
    this.#socket.dump(
      this.#writer.bytes,
      ({ body }) => {
        const service = readService(body, genericHeaderLength);
        if (service) found.push(service);
      },
      () => found.splice(0),
    );
    return found;
  }

  /** Null when there is none. */
  service(id: VirtualServiceId): FoundService | null {
    let found: FoundService | null = null;
    this.#writer.reset();
    this.#begin(commands.getService, flags.request);
    writeServiceId(this.#writer, id);
    this.#writer.end();
    const [error] = this.#socket.exchange(this.#writer.bytes, ({ body }) => {
      found = readService(body, genericHeaderLength);
    });
    if (error && !isAbsent(error)) throw error;
    return found;
  }

  /** Those that are reached by translation; none when there is no such service. */
  destinations(id: VirtualServiceId): BusyDestination[] {
    const found: BusyDestination[] = [];
    const family = familyOfId(id);
    this.#writer.reset();
    this.#begin(commands.getDestination, flags.request | flags.dump);
    writeServiceId(this.#writer, id);
    this.#writer.end();
    this.#socket.dump(
      this.#writer.bytes,
      ({ body }) => {
        const destination = readDestination(body, genericHeaderLength, family);
        if (destination) found.push(destination);
      },
      () => found.splice(0),
    );
    return found;
  }

  /** Of every connection through IPVS in this namespace, not of ours alone: the kernel has one setting. */
  setTimeouts(timeouts: Timeouts): void {
    this.#writer.reset();
    this.#begin(commands.setConfig, flags.request);
    writeTimeouts(this.#writer, timeouts);
    this.#writer.end();
    const [error] = this.#socket.exchange(this.#writer.bytes);
    if (error) throw error;
  }

  #begin(command: number, messageFlags: number): number {
    const sequence = this.#socket.nextSequence();
    beginGeneric(this.#writer, this.#family, command, messageFlags, sequence);
    return sequence;
  }
}

/** The kernel says ESRCH for an absent service, and ENOENT for an absent destination. */
export const isAbsent = (error: NetlinkError): boolean => error.code === 'ESRCH' || error.code === 'ENOENT';

const commandOf: Readonly<Record<TableRequest['t'], number>> = {
  'new-service': commands.newService,
  'set-service': commands.setService,
  'delete-service': commands.delService,
  'new-destination': commands.newDestination,
  'set-destination': commands.setDestination,
  'delete-destination': commands.delDestination,
};

function writeRequest(writer: MessageWriter, request: TableRequest): void {
  if ('service' in request) {
    writeService(writer, request.service);
    return;
  }
  writeServiceId(writer, request.id);
  if ('destination' in request) writeDestination(writer, request.destination);
}
