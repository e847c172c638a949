import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { Refusal } from '../driver.ts';
import type { Books } from './books.ts';
import { type Frontend, frontendId, frontendsOf } from './frontends.ts';
import { maxServiceKeyBytes, maxSet } from './layout.ts';
import type { Slots } from './slots.ts';

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
  const found: Refusal[] = [];
  const changed = new Set(changes.map(({ key }) => key));
  const claimed = new Map<string, ServicePortKey>();
  const room = roomIn(books, capacity);
  const sizes = changes.map(({ after }) => after?.endpoints.length ?? 0);
  const slots = books.slots.fits(sizes) ? null : books.slots.copy();
  for (const [i, change] of changes.entries()) {
    const { after } = change;
    if (after === null) continue;
    const shape = shapeRefusal(change);
    if (shape) {
      found.push(shape);
      continue;
    }
    const frontends = frontendsOf(after.key, after.spec);
    const refusal =
      clash(after.key, frontends, { books, changed, claimed }) ??
      overflow(after, frontends, { books, capacity, room }) ??
      (slots !== null && slots.take(sizes[i] ?? 0) === null ? noSlots(after, slots) : null);
    if (refusal) found.push(refusal);
  }
  return found;
}

function shapeRefusal({ key, after }: EntryChange): Refusal | null {
  if (after === null) return null;
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

interface Claims {
  readonly books: Books;
  /** Keys of the change set: what they hold now, they may give up. */
  readonly changed: ReadonlySet<ServicePortKey>;
  readonly claimed: Map<string, ServicePortKey>;
}

/** Two service ports cannot answer at one address, port and protocol. */
function clash(
  key: ServicePortKey,
  frontends: readonly Frontend[],
  { books, changed, claimed }: Claims,
): Refusal | null {
  for (const frontend of frontends) {
    const id = frontendId(frontend);
    const held = books.owners.get(id);
    const other = claimed.get(id) ?? (held !== undefined && !changed.has(held) ? held : key);
    if (other !== key)
      return {
        key,
        reason: 'invalid',
        message: `${frontend.ip} port ${frontend.port}/${frontend.protocol} belongs to ${other}`,
      };
    claimed.set(id, key);
  }
  return null;
}

type Room = { -readonly [K in keyof Omit<Capacity, 'backends'>]: number };

const roomIn = (books: Books, capacity: Capacity): Room => ({
  services: capacity.services - books.services.size,
  frontends: capacity.frontends - books.owners.size,
  // Of each address of the change set as if it were new: a bound, not a count.
  addresses: capacity.addresses - books.addresses.size,
  ranges: capacity.ranges - books.ranges,
});

interface Rooms {
  readonly books: Books;
  readonly capacity: Capacity;
  /** What is left; an entry takes its part. */
  readonly room: Room;
}

function overflow(
  { key, spec }: Entry,
  frontends: readonly Frontend[],
  { books, capacity, room }: Rooms,
): Refusal | null {
  const full = takeRoom(room, { key, spec, frontends }, books);
  if (full === null) return null;
  return { key, reason: 'capacity', message: `the map of ${full} is full at ${capacity[full]} elements` };
}

function takeRoom(
  room: Room,
  { key, spec, frontends }: Pick<Entry, 'key' | 'spec'> & { readonly frontends: readonly Frontend[] },
  books: Books,
): keyof Room | null {
  const held = books.services.get(key);
  if (held === undefined && --room.services < 0) return 'services';
  if (held !== undefined && held.entry.spec === spec) return null;
  for (const frontend of frontends) {
    if (!books.owners.has(frontendId(frontend)) && --room.frontends < 0) return 'frontends';
    if (books.addresses.value(frontend.ip) === null && --room.addresses < 0) return 'addresses';
  }
  room.ranges -= spec.sourceRanges.length - (held?.entry.spec.sourceRanges.length ?? 0);
  return room.ranges < 0 ? 'ranges' : null;
}

/** Blocks are powers of two, so what is taken is more than there are endpoints. */
const noSlots = ({ key, endpoints }: Entry, slots: Slots): Refusal => ({
  key,
  reason: 'capacity',
  message: `no room for its ${endpoints.length} endpoints among ${slots.capacity} (${slots.used} are taken)`,
});
