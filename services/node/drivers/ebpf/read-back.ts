import type { EntryChange } from '@octoplane/model/delta.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { Mismatch } from '../driver.ts';
import type { Books, Held } from './books.ts';
import { frontendId, frontendsOf } from './frontends.ts';
import type { KernelMaps } from './kernel-maps.ts';
import { backendBytes, endpointBytes, frontendBytes, serviceBytes } from './layout.ts';
import { frontendsAt, recordOf } from './render.ts';
import { arrange } from './sets.ts';
import { endpointKeys, frontendElements, serviceElements, writeSet } from './write.ts';

/** Reads the elements that the changes touched, byte by byte against what they should be. */
export function mismatches(changes: readonly EntryChange[], books: Books, maps: KernelMaps): Mismatch[] {
  return changes.flatMap(({ key, before, after }) => {
    const held = books.services.get(key);
    const message =
      (before && leftOf(before, after, books, maps)) ??
      (after !== null
        ? held === undefined
          ? 'its record is missing'
          : differenceFrom(after, held, books, maps)
        : held === undefined
          ? null
          : 'its record is still there');
    return message === null ? [] : [{ key, message }];
  });
}

/** A frontend of the entry as it was that it should no longer have, that no other has taken over, and that is still there. */
function leftOf(before: Entry, after: Entry | null, books: Books, maps: KernelMaps): string | null {
  const kept = new Set(after === null ? [] : frontendsOf(after.key, after.spec).map(frontendId));
  const value = Buffer.alloc(frontendBytes);
  for (const frontend of frontendsOf(before.key, before.spec)) {
    const id = frontendId(frontend);
    const owner = books.owners.get(id) ?? before.key;
    if (!kept.has(id) && owner === before.key && maps.frontends.read(endpointKeys([frontend]), value))
      return `frontend ${frontend.ip} port ${frontend.port} is still there`;
  }
  return null;
}

function differenceFrom(after: Entry, held: Held, books: Books, maps: KernelMaps): string | null {
  const { id, start } = held;
  const set = arrange(after.endpoints);
  const expectedSet = Buffer.alloc(set.ordered.length * backendBytes);
  writeSet(expectedSet, { start: 0, service: id, endpoints: set.ordered });
  const actualSet = maps.backends.bytes.subarray(start * backendBytes, start * backendBytes + expectedSet.length);
  for (const [i, { ip, port }] of set.ordered.entries())
    if (
      expectedSet.compare(
        actualSet,
        i * backendBytes,
        (i + 1) * backendBytes,
        i * backendBytes,
        (i + 1) * backendBytes,
      ) !== 0
    )
      return `endpoint ${ip}:${port} is missing`;

  const frontends = frontendsAt(after, set, held, books);
  const { keys, values } = frontendElements(frontends, maps);
  const actual = Buffer.alloc(frontendBytes);
  for (const [i, { key }] of frontends.entries()) {
    const there = maps.frontends.read(keys.subarray(i * endpointBytes, (i + 1) * endpointBytes), actual);
    if (!there) return `frontend ${key.ip} port ${key.port} is missing`;
    if (values.compare(actual, 0, frontendBytes, i * frontendBytes, (i + 1) * frontendBytes) !== 0)
      return `frontend ${key.ip} port ${key.port} differs`;
  }

  const record = serviceElements([{ id, record: recordOf(after, held) }], maps);
  const actualRecord = Buffer.alloc(serviceBytes);
  if (!maps.services.read(record.keys, actualRecord)) return 'its record is missing';
  return actualRecord.equals(record.values) ? null : 'its record differs';
}
