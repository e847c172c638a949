import type { Ip } from '@octoplane/model/address.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Counts, EndpointTraffic, ServiceTraffic } from '../driver.ts';
import type { Books, Held } from './books.ts';
import { addressBytes, readAddress, writeAddress } from './layout.ts';
import type { KernelMap } from './maps.ts';

/** struct counts_key and struct counts (structs.h). */
export const countsKeyBytes = 24;
export const countsBytes = 40;

/** A service port's own element: what endpoints that have gone were given. */
const gone: Ip = '::';

/**
 * What the programs counted, read in batches when somebody asks. Programs know nothing of endpoints that go: their elements are
 * found here, added to their service port's own, and removed, so that a service port's sum never falls.
 */
export class TrafficCounts {
  readonly #map: KernelMap;

  constructor(map: KernelMap) {
    this.#map = map;
  }

  /** Of every service port that was ever given something, in the order of their age. */
  read(books: Books): readonly ServiceTraffic[] {
    const found = new Map<number, EndpointTraffic[]>();
    for (const { keys, values, count } of this.#map.chunks())
      for (let i = 0; i < count; i++) {
        const service = keys.readUInt32LE(i * countsKeyBytes + addressBytes);
        const ip = readAddress(keys, i * countsKeyBytes) ?? gone;
        const port = keys.readUInt16BE(i * countsKeyBytes + addressBytes + 4);
        const endpoints = found.get(service);
        const traffic = { ip, port, counts: readCounts(values, i * countsBytes) };
        if (endpoints) endpoints.push(traffic);
        else found.set(service, [traffic]);
      }
    const services = new Map(Array.from(books.services.values(), (held) => [held.id, held]));
    return [...found]
      .sort(([a], [b]) => a - b)
      .flatMap(([id, endpoints]) => this.#settle(id, endpoints, services.get(id)) ?? []);
  }

  /** Null: the service port is no more. */
  #settle(id: number, found: readonly EndpointTraffic[], held: Held | undefined): ServiceTraffic | null {
    const names = new Set(held?.entry.endpoints.map(nameOf));
    const endpoints = found.filter((each) => names.has(nameOf(each)));
    const rest = found.filter((each) => !names.has(nameOf(each)));
    const left = sum(rest.map(({ counts }) => counts));
    if (held && rest.some(({ ip }) => ip !== gone)) this.#write(id, left);
    this.#remove(
      id,
      rest.filter(({ ip }) => !held || ip !== gone),
    );
    if (!held) return null;
    const key: ServicePortKey = held.entry.key;
    return { key, counts: sum([left, ...endpoints.map(({ counts }) => counts)]), endpoints };
  }

  #write(service: number, counts: Counts): void {
    const element = this.#map.elements(1);
    writeKey(element.keys, 0, { service, ip: gone, port: 0 });
    for (const [i, field] of fields.entries()) element.values.writeBigUInt64LE(BigInt(counts[field]), i * 8);
    this.#map.write(element);
  }

  #remove(service: number, endpoints: readonly EndpointTraffic[]): void {
    const keys = Buffer.alloc(endpoints.length * countsKeyBytes);
    for (const [i, { ip, port }] of endpoints.entries()) writeKey(keys, i * countsKeyBytes, { service, ip, port });
    this.#map.remove(keys);
  }
}

function writeKey(
  out: Buffer,
  at: number,
  { service, ip, port }: { readonly service: number; readonly ip: Ip; readonly port: number },
): void {
  writeAddress(out, at, ip);
  out.writeUInt32LE(service, at + addressBytes);
  out.writeUInt16BE(port, at + addressBytes + 4);
}

const fields = [
  'connections',
  'packetsTo',
  'bytesTo',
  'packetsFrom',
  'bytesFrom',
] as const satisfies readonly (keyof Counts)[];

/** Exact up to 2^53. */
function readCounts(bytes: Buffer, at: number): Counts {
  const [connections, packetsTo, bytesTo, packetsFrom, bytesFrom] = fields.map((_, i) =>
    Number(bytes.readBigUInt64LE(at + i * 8)),
  ) as [number, number, number, number, number];
  return { connections, packetsTo, bytesTo, packetsFrom, bytesFrom };
}

function sum(all: readonly Counts[]): Counts {
  const total = { connections: 0, packetsTo: 0, bytesTo: 0, packetsFrom: 0, bytesFrom: 0 };
  for (const counts of all) for (const field of fields) total[field] += counts[field];
  return total;
}

const nameOf = ({ ip, port }: { readonly ip: Ip; readonly port: number }): string => `${ip}|${port}`;
