import type { EntryChange } from '@octoplane/model/delta.ts';
import { parseServicePortKey, type ServicePortKey } from '@octoplane/model/keys.ts';
import type { Refusal } from '../driver.ts';
import type { Books } from './books.ts';
import { frontendId, frontendsOf } from './frontends.ts';
import { maxServiceKeyBytes, maxSet } from './layout.ts';

/** Sizes of the maps. Those of pinned maps stay as they are. */
export interface Capacity {
  readonly frontends: number;
  /** A power of two. */
  readonly backends: number;
  readonly services: number;
  readonly addresses: number;
  readonly ranges: number;
}

/** As consts.h: ten times what Kubernetes is tested for, in 13 MB for the backends; the others grow with their use. */
export const defaultCapacity: Capacity = {
  frontends: 262_144,
  backends: 524_288,
  services: 65_536,
  addresses: 262_144,
  ranges: 65_536,
};

/** Which of these changes do not fit, and why. Pure. */
export function refusals(changes: readonly EntryChange[], books: Books, capacity: Capacity): readonly Refusal[] {
  return [
    ...changes.flatMap((change) => shapeRefusal(change) ?? []),
    ...clashes(changes, books),
    ...overflows(changes, books, capacity),
  ];
}

function shapeRefusal({ key, after }: EntryChange): Refusal | null {
  if (after === null) return null;
  if (parseServicePortKey(key)?.protocol === 'SCTP')
    return {
      key,
      reason: 'unsupported',
      message: 'SCTP is not served by the ebpf driver: the kernel has no socket hook for it. Use the nftables driver.',
    };
  if (Buffer.byteLength(key) > maxServiceKeyBytes)
    return { key, reason: 'capacity', message: `the key is longer than ${maxServiceKeyBytes} bytes` };
  if (after.endpoints.length > maxSet)
    return {
      key,
      reason: 'capacity',
      message: `${after.endpoints.length} endpoints; ${maxSet} is the most for one service port`,
    };
  return null;
}

/** Two service ports cannot answer at one address, port and protocol. */
function clashes(changes: readonly EntryChange[], books: Books): Refusal[] {
  const found: Refusal[] = [];
  const changed = new Set(changes.map(({ key }) => key));
  const claimed = new Map<string, ServicePortKey>();
  for (const { key, after } of changes) {
    if (after === null) continue;
    for (const frontend of frontendsOf(key, after.spec)) {
      const id = frontendId(frontend);
      const held = books.owners.get(id);
      const other = claimed.get(id) ?? (held !== undefined && !changed.has(held) ? held : key);
      if (other === key) claimed.set(id, key);
      else
        found.push({
          key,
          reason: 'invalid',
          message: `${frontend.ip} port ${frontend.port}/${frontend.protocol} belongs to ${other}`,
        });
    }
  }
  return found;
}

/** Names the entries that are too many, in the order of the changes. */
function overflows(changes: readonly EntryChange[], books: Books, capacity: Capacity): Refusal[] {
  const sizes = changes.map(({ after }) => after?.endpoints.length ?? 0);
  const room: Room = {
    services: capacity.services - books.services.size,
    frontends: capacity.frontends - books.owners.size,
    // Of each address of the change set as if it were new: a bound, not a count.
    addresses: capacity.addresses - books.addresses.size,
    ranges: capacity.ranges - books.ranges,
  };
  const slots = books.slots.fits(sizes) ? null : books.slots.copy();
  const found: Refusal[] = [];
  for (const [i, { key, after }] of changes.entries()) {
    const full = after === null ? null : takeRoom(room, key, after, books);
    const size = sizes[i] ?? 0;
    if (full !== null)
      found.push({ key, reason: 'capacity', message: `the map of ${full} is full at ${capacity[full]} elements` });
    else if (slots !== null && slots.take(size) === null)
      found.push({
        key,
        reason: 'capacity',
        message: `no room for its ${size} endpoints among ${capacity.backends} (${books.slots.used} are taken)`,
      });
  }
  return found;
}

type Room = { -readonly [K in keyof Omit<Capacity, 'backends'>]: number };

function takeRoom(
  room: Room,
  key: ServicePortKey,
  after: NonNullable<EntryChange['after']>,
  books: Books,
): keyof Room | null {
  const held = books.services.get(key);
  if (held === undefined && --room.services < 0) return 'services';
  if (held !== undefined && held.entry.spec === after.spec) return null;
  for (const frontend of frontendsOf(key, after.spec)) {
    if (!books.owners.has(frontendId(frontend)) && --room.frontends < 0) return 'frontends';
    if (books.addresses.value(frontend.ip) === null && --room.addresses < 0) return 'addresses';
  }
  room.ranges -= after.spec.sourceRanges.length - (held?.entry.spec.sourceRanges.length ?? 0);
  return room.ranges < 0 ? 'ranges' : null;
}
