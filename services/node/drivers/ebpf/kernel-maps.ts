import { join } from 'node:path';
import type { Capacity } from './capacity.ts';
import { countsBytes, countsKeyBytes } from './counts.ts';
import { checked } from './kernel-error.ts';
import {
  addressBytes,
  addressRolesBytes,
  backendBytes,
  configBytes,
  endpointBytes,
  frontendBytes,
  rangeKeyBytes,
  serviceBytes,
} from './layout.ts';
import { libbpf } from './libbpf.ts';
import { KernelMap, MappedArray } from './maps.ts';
import type { LoadedObject } from './object.ts';

/** The maps that the daemon fills. */
export interface KernelMaps {
  readonly frontends: KernelMap;
  readonly services: KernelMap;
  readonly addresses: KernelMap;
  readonly ranges: KernelMap;
  readonly config: KernelMap;
  readonly backends: MappedArray;
  readonly counts: KernelMap;
  readonly graceFd: number;
}

export function openMaps(object: LoadedObject, capacity: Capacity): KernelMaps {
  const map = (name: string, keyBytes: number, valueBytes: number): KernelMap =>
    new KernelMap(name, object.mapFd(name), { keyBytes, valueBytes });
  return {
    frontends: map('frontends', endpointBytes, frontendBytes),
    services: map('services', 4, serviceBytes),
    addresses: map('addresses', addressBytes, addressRolesBytes),
    ranges: map('source_ranges', rangeKeyBytes, 4),
    config: map('config', 4, configBytes),
    backends: new MappedArray('backends', object.mapFd('backends'), capacity.backends * backendBytes),
    counts: map('counts', countsKeyBytes, countsBytes),
    graceFd: object.mapFd('grace'),
  };
}

/** Everything that is pinned, by the object that can pin it again. */
export const pinnedMaps = {
  sockets: [
    'frontends',
    'backends',
    'services',
    'addresses',
    'source_ranges',
    'affinities',
    'config',
    'grace',
    'peers',
    'udp_peers',
    'udp_replies',
    'counts',
  ],
  packets: ['flows', 'fragments'],
  ends: [],
} as const;

const mapNames = {
  frontends: 'frontends',
  backends: 'backends',
  services: 'services',
  addresses: 'addresses',
  ranges: 'source_ranges',
} as const satisfies Record<keyof Capacity, string>;

/** Maps that are pinned keep their sizes: they cannot be changed under traffic. */
export function adoptCapacity(wanted: Capacity, mapDirectory: string): Capacity {
  const sizeOf = (name: keyof Capacity): number => pinnedSize(join(mapDirectory, mapNames[name])) ?? wanted[name];
  return {
    frontends: sizeOf('frontends'),
    backends: sizeOf('backends'),
    services: sizeOf('services'),
    addresses: sizeOf('addresses'),
    ranges: sizeOf('ranges'),
  };
}

export const sizesByMap = (capacity: Capacity): Readonly<Record<string, number>> =>
  Object.fromEntries(Object.entries(mapNames).map(([name, map]) => [map, capacity[name as keyof Capacity]]));

/** max_entries of struct bpf_map_info; null when nothing is pinned there. */
function pinnedSize(path: string): number | null {
  const bpf = libbpf();
  const fd = bpf.openPin(path);
  if (fd < 0) return null;
  try {
    const info = Buffer.alloc(128);
    checked(bpf.info(fd, info, Uint32Array.of(info.length)), `reading about ${path}`);
    return info.readUInt32LE(16);
  } finally {
    bpf.closeFd(fd);
  }
}
