import type { EntryChange } from '@octoplane/model/delta.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { Mismatch } from '../driver.ts';
import type { Books, Held } from './books.ts';
import { frontendId, frontendsOf } from './frontends.ts';
import type { KernelMaps } from './kernel-maps.ts';
import { backendBytes, endpointBytes, frontendBytes, serviceBytes, writeBackend } from './layout.ts';
import type { Readable } from './maps.ts';
import { frontendsAt, recordOf } from './render.ts';
import { arrange, type BackendSet } from './sets.ts';
import { endpointKeys, frontendElements, serviceElements } from './write.ts';

/** From so many changes on, reading the maps as a whole is cheaper than asking for each element. */
const many = 1000;

/** Reads the elements that the changes touched, byte by byte against what they should be. */
export function mismatches(changes: readonly EntryChange[], books: Books, maps: KernelMaps): Mismatch[] {
  const reader = new Reader(changes.length, books, maps);
  return changes.flatMap(({ key, before, after }) => {
    const held = books.services.get(key);
    const message =
      (before && reader.leftOf(before, after)) ??
      (after !== null
        ? held === undefined
          ? 'its record is missing'
          : reader.differenceFrom(after, held)
        : held === undefined
          ? null
          : 'its record is still there');
    return message === null ? [] : [{ key, message }];
  });
}

class Reader {
  readonly #books: Books;
  readonly #maps: KernelMaps;
  readonly #frontends: Readable;
  readonly #services: Readable;
  readonly #frontend = Buffer.alloc(frontendBytes);
  readonly #record = Buffer.alloc(serviceBytes);
  readonly #backend = Buffer.alloc(backendBytes);

  constructor(changes: number, books: Books, maps: KernelMaps) {
    this.#books = books;
    this.#maps = maps;
    this.#frontends = changes < many ? maps.frontends : maps.frontends.snapshot();
    this.#services = changes < many ? maps.services : maps.services.snapshot();
  }

  /** A frontend of the entry as it was that it should no longer have, that no other has taken over, and that is still there. */
  leftOf(before: Entry, after: Entry | null): string | null {
    const kept = new Set(after === null ? [] : frontendsOf(after.key, after.spec).map(frontendId));
    for (const frontend of frontendsOf(before.key, before.spec)) {
      const id = frontendId(frontend);
      const owner = this.#books.owners.get(id) ?? before.key;
      if (!kept.has(id) && owner === before.key && this.#frontends.read(endpointKeys([frontend]), this.#frontend))
        return `frontend ${frontend.ip} port ${frontend.port} is still there`;
    }
    return null;
  }

  differenceFrom(after: Entry, held: Held): string | null {
    const set = arrange(after.endpoints);
    return (
      this.#differentBackend(set, held) ??
      this.#differentFrontend(after, set, held) ??
      this.#differentRecord(after, held)
    );
  }

  #differentBackend({ ordered }: BackendSet, { id, start }: Held): string | null {
    const { bytes } = this.#maps.backends;
    let at = start * backendBytes;
    for (const { ip, port, flags } of ordered) {
      writeBackend(this.#backend, 0, { ip, port, flags, service: id });
      if (bytes.compare(this.#backend, 0, backendBytes, at, at + backendBytes) !== 0)
        return `endpoint ${ip}:${port} is missing`;
      at += backendBytes;
    }
    return null;
  }

  #differentFrontend(after: Entry, set: BackendSet, held: Held): string | null {
    const frontends = frontendsAt(after, set, held, this.#books);
    const { keys, values } = frontendElements(frontends, this.#maps);
    for (const [i, { key }] of frontends.entries()) {
      if (!this.#frontends.read(keys.subarray(i * endpointBytes, (i + 1) * endpointBytes), this.#frontend))
        return `frontend ${key.ip} port ${key.port} is missing`;
      if (values.compare(this.#frontend, 0, frontendBytes, i * frontendBytes, (i + 1) * frontendBytes) !== 0)
        return `frontend ${key.ip} port ${key.port} differs`;
    }
    return null;
  }

  #differentRecord(after: Entry, held: Held): string | null {
    const { keys, values } = serviceElements([{ id: held.id, record: recordOf(after, held) }], this.#maps);
    if (!this.#services.read(keys, this.#record)) return 'its record is missing';
    return this.#record.equals(values) ? null : 'its record differs';
  }
}
