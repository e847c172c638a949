import type { Ip } from '@octoplane/model/address.ts';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Endpoint, type Entry, endpointsEqual, type ServicePortSpec } from '@octoplane/model/rule-set.ts';
import type { AddressValue } from './addresses.ts';
import type { Books, Held } from './books.ts';
import type { Gone } from './ends.ts';
import { type Frontend, frontendId, frontendsOf, frontendValue, portOf } from './frontends.ts';
import type { FrontendValue, Endpoint as Place, ServiceRecord } from './layout.ts';
import { arrange, type BackendSet } from './sets.ts';
import type { Block } from './slots.ts';

/**
 * What to write, in the order in which it is written: sets of backends where nobody looks, ranges, then the frontends,
 * each of which moves to its new set by one overwritten value; then names and removals. `garbage` may be given to others
 * when no program runs that has seen the old frontends.
 */
export interface Writes {
  readonly sets: readonly {
    readonly start: number;
    readonly service: number;
    readonly endpoints: readonly Endpoint[];
  }[];
  readonly newRanges: readonly ServiceRange[];
  readonly frontends: readonly { readonly key: Place; readonly value: FrontendValue }[];
  readonly services: readonly { readonly id: number; readonly record: ServiceRecord }[];
  readonly addresses: readonly { readonly ip: Ip; readonly value: AddressValue }[];
  readonly oldFrontends: readonly Place[];
  readonly oldServices: readonly number[];
  readonly oldRanges: readonly ServiceRange[];
  readonly oldAddresses: readonly Ip[];
  readonly garbage: readonly Block[];
  /** Endpoints whose connected UDP sockets are to be ended (P30). */
  readonly gone: readonly Gone[];
}

export interface ServiceRange {
  readonly service: number;
  /** "address/length". */
  readonly range: string;
}

/** Policies in a service's record. */
export const policyBits = { internalLocal: 1, externalLocal: 2 } as const;

/** The changes must have been checked (capacity.ts). Books are brought to what they will be when all is written. */
export function render(changes: readonly EntryChange[], books: Books): Writes {
  const writes = new WriteList();
  // Removals first: a frontend may pass from one service port to another within one change set.
  for (const { key, after } of changes) {
    const held = books.services.get(key) ?? null;
    if (!held) continue;
    writes.gone.push(...goneOf(held, after));
    withdraw(held, after, books, writes);
  }
  for (const { key, after } of changes) if (after) place(key, after, books, writes);
  for (const ip of books.addresses.takeChanged()) writes.setAddress(ip, books.addresses.value(ip));
  return writes;
}

/** Everything that a service port's frontends say. */
export function frontendsAt(
  entry: Entry,
  set: BackendSet,
  { id, start, generation }: Omit<Held, 'entry'>,
  books: Books,
) {
  return frontendsOf(entry.key, entry.spec).map((key) => ({
    key,
    value: frontendValue(key, entry, set, { service: id, start, generation, masqueradeAll: books.masqueradeAll }),
  }));
}

export const recordOf = (
  { key, spec, endpoints }: Entry,
  { start, generation }: Omit<Held, 'entry'>,
): ServiceRecord => ({
  start,
  generation,
  count: endpoints.length,
  affinitySeconds: spec.affinityTimeoutSeconds,
  policies:
    (spec.internalPolicy === 'Local' ? policyBits.internalLocal : 0) |
    (spec.externalPolicy === 'Local' ? policyBits.externalLocal : 0),
  usableFamilies: spec.usableFamilies,
  key,
});

function* goneOf({ id, entry }: Held, after: Entry | null): Generator<Gone> {
  if (portOf(entry.key).protocol !== 'UDP' || after?.endpoints === entry.endpoints) return;
  const kept = new Set(after?.endpoints.map(({ ip, port }) => `${ip}|${port}`));
  for (const { ip, port } of entry.endpoints)
    if (!kept.has(`${ip}|${port}`)) yield { key: entry.key, service: id, backend: { ip, port, protocol: 'UDP' } };
}

/** Gives up what `after` does not keep. */
function withdraw(held: Held, after: Entry | null, books: Books, writes: WriteList): void {
  const { key, spec, endpoints } = held.entry;
  const kept = new Set(after === null ? [] : frontendsOf(key, after.spec).map(frontendId));
  for (const frontend of frontendsOf(key, spec)) {
    const id = frontendId(frontend);
    if (kept.has(id) || books.owners.get(id) !== key) continue;
    books.owners.delete(id);
    writes.removeFrontend(id, frontend);
  }
  const keptRanges = new Set(after?.spec.sourceRanges);
  for (const range of spec.sourceRanges) if (!keptRanges.has(range)) writes.oldRanges.push({ service: held.id, range });
  if (after !== null) return;
  books.services.delete(key);
  books.addresses.replace(held.entry, null);
  books.ranges -= spec.sourceRanges.length;
  writes.oldServices.push(held.id);
  writes.discard({ start: held.start, count: endpoints.length });
}

function place(key: ServicePortKey, entry: Entry, books: Books, writes: WriteList): void {
  const before = books.services.get(key);
  const id = before?.id ?? books.nextId++;
  const set = arrange(entry.endpoints);
  let start = before?.start ?? 0;
  if (!before || !endpointsEqual(before.entry.endpoints, entry.endpoints)) {
    start = takeSlots(books, entry);
    writes.sets.push({ start, service: id, endpoints: set.ordered });
    if (before) writes.discard({ start: before.start, count: before.entry.endpoints.length });
  }
  const generation = books.nextGeneration;
  books.nextGeneration = (generation + 1) >>> 0;
  const held = { id, start, generation };
  for (const frontend of frontendsAt(entry, set, held, books)) {
    books.owners.set(frontendId(frontend.key), key);
    writes.setFrontend(frontend);
  }
  addRanges(id, before?.entry.spec ?? null, entry.spec, books, writes);
  writes.services.push({ id, record: recordOf(entry, held) });
  books.addresses.replace(before?.entry ?? null, entry);
  books.services.set(key, { ...held, entry });
}

function takeSlots(books: Books, { key, endpoints }: Entry): number {
  const start = books.slots.take(endpoints.length);
  if (start === null) throw new Error(`${key}: ${endpoints.length} endpoints do not fit, although they were checked`);
  return start;
}

function addRanges(
  service: number,
  before: ServicePortSpec | null,
  after: ServicePortSpec,
  books: Books,
  writes: WriteList,
): void {
  const had = new Set(before?.sourceRanges);
  for (const range of after.sourceRanges) if (!had.has(range)) writes.newRanges.push({ service, range });
  books.ranges += after.sourceRanges.length - had.size;
}

class WriteList implements Writes {
  readonly sets: Writes['sets'][number][] = [];
  readonly newRanges: ServiceRange[] = [];
  readonly frontends: { key: Frontend; value: FrontendValue }[] = [];
  readonly services: Writes['services'][number][] = [];
  readonly addresses: Writes['addresses'][number][] = [];
  readonly oldServices: number[] = [];
  readonly oldRanges: ServiceRange[] = [];
  readonly oldAddresses: Ip[] = [];
  readonly garbage: Block[] = [];
  readonly gone: Gone[] = [];
  readonly #removed = new Map<string, Place>();

  get oldFrontends(): readonly Place[] {
    return [...this.#removed.values()];
  }

  discard(block: Block): void {
    if (block.count > 0) this.garbage.push(block);
  }

  removeFrontend(id: string, key: Place): void {
    this.#removed.set(id, key);
  }

  setFrontend(frontend: { key: Frontend; value: FrontendValue }): void {
    if (this.#removed.size > 0) this.#removed.delete(frontendId(frontend.key));
    this.frontends.push(frontend);
  }

  setAddress(ip: Ip, value: AddressValue | null): void {
    if (value === null) this.oldAddresses.push(ip);
    else this.addresses.push({ ip, value });
  }
}
