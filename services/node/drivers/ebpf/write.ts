import { parseCidr } from '@octoplane/model/address.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { AddressValue } from './addresses.ts';
import type { KernelMaps } from './kernel-maps.ts';
import {
  addressBytes,
  addressRolesBytes,
  backendBytes,
  endpointBytes,
  frontendBytes,
  type Endpoint as Place,
  rangeKeyBytes,
  serviceBytes,
  writeAddress,
  writeBackend,
  writeEndpoint,
  writeFrontend,
  writeRangeKey,
  writeService,
} from './layout.ts';
import type { Elements } from './maps.ts';
import type { ServiceRange, Writes } from './render.ts';

/** Brings writes into the maps, one call for each kind, in an order in which every program sees old or new, never a mixture. */
export function write(writes: Writes, maps: KernelMaps): void {
  for (const set of writes.sets) writeSet(maps.backends.bytes, set);
  maps.ranges.write(rangeElements(writes.newRanges, maps));
  maps.frontends.write(frontendElements(writes.frontends, maps));
  maps.services.write(serviceElements(writes.services, maps));
  maps.addresses.write(addressElements(writes.addresses, maps));
  maps.frontends.remove(endpointKeys(writes.oldFrontends));
  maps.services.remove(serviceKeys(writes.oldServices));
  maps.ranges.remove(rangeElements(writes.oldRanges, maps).keys);
  maps.addresses.remove(
    addressElements(
      writes.oldAddresses.map((ip) => ({ ip, value: absent })),
      maps,
    ).keys,
  );
}

const absent: AddressValue = { roles: 0, echo: 0 };

/** The set's bytes; also what a read back must find. */
export function writeSet(
  out: Buffer,
  { start, service, endpoints }: { start: number; service: number; endpoints: Entry['endpoints'] },
): void {
  for (const [i, { ip, port, flags }] of endpoints.entries())
    writeBackend(out, (start + i) * backendBytes, { ip, port, flags, service });
}

export function frontendElements(frontends: Writes['frontends'], maps: KernelMaps): Elements {
  const elements = maps.frontends.elements(frontends.length);
  for (const [i, { key, value }] of frontends.entries()) {
    writeEndpoint(elements.keys, i * endpointBytes, key);
    writeFrontend(elements.values, i * frontendBytes, value, elements.keys, i * endpointBytes);
  }
  return elements;
}

export function serviceElements(services: Writes['services'], maps: KernelMaps): Elements {
  const elements = maps.services.elements(services.length);
  for (const [i, { id, record }] of services.entries()) {
    elements.keys.writeUInt32LE(id, i * 4);
    writeService(elements.values, i * serviceBytes, record);
  }
  return elements;
}

export function addressElements(addresses: Writes['addresses'], maps: KernelMaps): Elements {
  const elements = maps.addresses.elements(addresses.length);
  for (const [i, { ip, value }] of addresses.entries()) {
    writeAddress(elements.keys, i * addressBytes, ip);
    elements.values[i * addressRolesBytes] = value.roles;
    elements.values[i * addressRolesBytes + 1] = value.echo;
  }
  return elements;
}

export function rangeElements(ranges: readonly ServiceRange[], maps: KernelMaps): Elements {
  const elements = maps.ranges.elements(ranges.length);
  for (const [i, { service, range }] of ranges.entries()) {
    const cidr = parseCidr(range);
    if (cidr === null) throw new Error(`"${range}" is not an address range`);
    writeRangeKey(elements.keys, i * rangeKeyBytes, service, cidr.ip, cidr.length);
  }
  return elements;
}

export function endpointKeys(endpoints: readonly Place[]): Buffer {
  const keys = Buffer.alloc(endpoints.length * endpointBytes);
  for (const [i, endpoint] of endpoints.entries()) writeEndpoint(keys, i * endpointBytes, endpoint);
  return keys;
}

function serviceKeys(ids: readonly number[]): Buffer {
  const keys = Buffer.alloc(ids.length * 4);
  for (const [i, id] of ids.entries()) keys.writeUInt32LE(id, i * 4);
  return keys;
}
