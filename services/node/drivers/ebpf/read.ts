import type { Ip } from '@octoplane/model/address.ts';
import { parseServicePortKey, type ServicePortKey } from '@octoplane/model/keys.ts';
import { compareEndpoints, type Endpoint, type Entry } from '@octoplane/model/rule-set.ts';
import { type BookOptions, type Books, emptyBooks } from './books.ts';
import type { Capacity } from './capacity.ts';
import { frontendId, frontendsOf, frontendValue } from './frontends.ts';
import type { KernelMaps } from './kernel-maps.ts';
import {
  backendBytes,
  endpointBytes,
  frontendBytes,
  frontendKinds,
  type Endpoint as Place,
  rangeKeyBytes,
  readBackend,
  readEndpoint,
  readFrontend,
  readRangeKey,
  readService,
  type ServiceRecord,
  serviceBytes,
  writeEndpoint,
  writeFrontend,
} from './layout.ts';
import { policyBits } from './render.ts';
import { arrange, rankOf } from './sets.ts';
import type { Block } from './slots.ts';

/** What the maps hold, as entries, with the books that go with them. */
export interface Reading {
  readonly books: Books;
  /** Elements that no entry explains; `prune` removes them. */
  readonly strays: { readonly frontends: readonly Place[]; readonly services: readonly number[] };
}

/**
 * Reads everything. An entry is what its service's record and endpoints say, with those frontends that say the same: one
 * that a torn change or somebody else left differently is not listed, so the next change set writes it again.
 */
export function readAll(maps: KernelMaps, capacity: Capacity, options: BookOptions): Reading {
  const found = readFrontends(maps);
  const ranges = readRanges(maps);
  const records = readRecords(maps);
  const books = emptyBooks(capacity, options, takenBlocks(records, found));
  const strayServices: number[] = [];
  const explained = new Set<string>();
  for (const [id, record] of records) {
    books.nextId = Math.max(books.nextId, id + 1);
    const entry = entryOf(
      { id, record, ranges: ranges.get(id) ?? [], found: found.get(id) ?? [], masqueradeAll: books.masqueradeAll },
      maps,
      capacity,
    );
    if (entry === null || books.services.has(entry.key)) {
      strayServices.push(id);
      continue;
    }
    for (const frontend of frontendsOf(entry.key, entry.spec)) {
      const name = frontendId(frontend);
      books.owners.set(name, entry.key);
      explained.add(name);
    }
    books.services.set(entry.key, { id, start: record.start, generation: record.generation, entry });
    books.addresses.replace(null, entry);
    books.ranges += entry.spec.sourceRanges.length;
  }
  const frontends = [...found.values()].flat().filter(({ key }) => !explained.has(frontendId(key)));
  return { books, strays: { frontends: frontends.map(({ key }) => key), services: strayServices } };
}

interface FoundFrontend {
  readonly key: Place;
  readonly kinds: number;
  readonly value: Buffer;
}

/** By service id. */
function readFrontends({ frontends }: KernelMaps): Map<number, FoundFrontend[]> {
  const found = new Map<number, FoundFrontend[]>();
  for (const { keys, values, count } of frontends.chunks())
    for (let i = 0; i < count; i++) {
      const key = readEndpoint(keys, i * endpointBytes);
      if (key === null) continue;
      const value = Buffer.from(values.subarray(i * frontendBytes, (i + 1) * frontendBytes));
      const { service, kinds } = readFrontend(value, 0);
      const frontend = { key, kinds, value };
      const list = found.get(service);
      if (list) list.push(frontend);
      else found.set(service, [frontend]);
    }
  return found;
}

function readRanges({ ranges }: KernelMaps): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (const { keys, count } of ranges.chunks())
    for (let i = 0; i < count; i++) {
      const key = readRangeKey(keys, i * rangeKeyBytes);
      if (key !== null) found.set(key.service, [...(found.get(key.service) ?? []), key.range]);
    }
  return found;
}

function readRecords({ services }: KernelMaps): Map<number, ServiceRecord> {
  const records = new Map<number, ServiceRecord>();
  for (const { keys, values, count } of services.chunks())
    for (let i = 0; i < count; i++) records.set(keys.readUInt32LE(i * 4), readService(values, i * serviceBytes));
  return records;
}

/** What records name, and what frontends point to: both may be in use by programs. */
function* takenBlocks(
  records: ReadonlyMap<number, ServiceRecord>,
  found: ReadonlyMap<number, readonly FoundFrontend[]>,
): Generator<Block> {
  for (const [id, record] of records) {
    yield record;
    for (const { value } of found.get(id) ?? []) {
      const { inside, outside } = readFrontend(value, 0);
      for (const window of [inside, outside])
        if (window.start < record.start || window.start + window.count > record.start + record.count) yield window;
    }
  }
}

interface Found {
  readonly id: number;
  readonly record: ServiceRecord;
  readonly ranges: readonly string[];
  readonly found: readonly FoundFrontend[];
  readonly masqueradeAll: boolean;
}

/** Null: the record or its endpoints are not what this driver writes. */
function entryOf(
  { id, record, ranges, found, masqueradeAll }: Found,
  maps: KernelMaps,
  capacity: Capacity,
): Entry | null {
  if (parseServicePortKey(record.key) === null || record.start + record.count > capacity.backends) return null;
  const endpoints = endpointsAt(record, id, maps.backends.bytes);
  if (endpoints === null) return null;
  const key = record.key as ServicePortKey;
  const byKind = (kind: number): Ip[] =>
    found
      .filter(({ kinds }) => kinds & kind)
      .map(({ key: place }) => place.ip)
      .sort();
  const spec = {
    clusterIps: byKind(frontendKinds.clusterIp),
    externalIps: byKind(frontendKinds.externalIp),
    loadBalancerIps: byKind(frontendKinds.loadBalancer),
    nodePort: found.find(({ kinds }) => kinds & frontendKinds.nodePort)?.key.port ?? 0,
    internalPolicy: record.policies & policyBits.internalLocal ? 'Local' : 'Cluster',
    externalPolicy: record.policies & policyBits.externalLocal ? 'Local' : 'Cluster',
    affinityTimeoutSeconds: record.affinitySeconds,
    sourceRanges: [...ranges].sort(),
    healthCheckNodePort: 0,
    usableFamilies: record.usableFamilies,
  } as const;
  return withoutAltered({ key, spec, endpoints }, { id, record, found, masqueradeAll });
}

/** Takes out of the header what the kernel's frontends do not bear out. */
function withoutAltered(entry: Entry, { id, record, found, masqueradeAll }: Omit<Found, 'ranges'>): Entry {
  const set = arrange(entry.endpoints);
  const place = { service: id, start: record.start, generation: record.generation, masqueradeAll };
  const altered = new Set<string>();
  const actual = new Map(found.map((frontend) => [frontendId(frontend.key), frontend]));
  const keyBytes = Buffer.alloc(endpointBytes);
  const expected = Buffer.alloc(frontendBytes);
  for (const frontend of frontendsOf(entry.key, entry.spec)) {
    writeEndpoint(keyBytes, 0, frontend);
    writeFrontend(expected, 0, frontendValue(frontend, entry, set, place), keyBytes, 0);
    const name = frontendId(frontend);
    if (actual.get(name)?.value.equals(expected) !== true)
      altered.add(frontend.kinds & frontendKinds.nodePort ? 'nodePort' : frontend.ip);
  }
  if (altered.size === 0) return entry;
  const kept = (ips: readonly Ip[]): Ip[] => ips.filter((ip) => !altered.has(ip));
  const { spec } = entry;
  return {
    ...entry,
    spec: {
      ...spec,
      clusterIps: kept(spec.clusterIps),
      externalIps: kept(spec.externalIps),
      loadBalancerIps: kept(spec.loadBalancerIps),
      nodePort: altered.has('nodePort') ? 0 : spec.nodePort,
    },
  };
}

function endpointsAt({ start, count }: ServiceRecord, id: number, bytes: Buffer): readonly Endpoint[] | null {
  const endpoints: Endpoint[] = [];
  let rank = 0;
  for (let slot = start; slot < start + count; slot++) {
    const backend = readBackend(bytes, slot * backendBytes);
    if (backend === null || backend.service !== id || rankOf(backend) < rank) return null;
    rank = rankOf(backend);
    endpoints.push({ ip: backend.ip, port: backend.port, flags: backend.flags });
  }
  return endpoints.sort(compareEndpoints);
}
