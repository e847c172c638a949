import { bucketCount, bucketOf } from '@octoplane/model/digest.ts';
import { StreamResponse } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import { describe, expect, test } from 'vitest';
import { entry } from '../../../test/support/stub-nodes/entries.ts';
import { ClassBuckets, type Overrides } from './buckets.ts';
import { encodeFrame, type PartBody, seal } from './frame-bytes.ts';

const none: Overrides = new Map();
const entries = (count: number, endpoints = 50): Map<ServicePortKey, Entry> =>
  new Map(
    Array.from({ length: count }, (_, i) => {
      const one = entry(
        i,
        Array.from({ length: endpoints }, (_, k) => k),
      );
      return [one.key, one];
    }),
  );

/** The frames as a node sees them. */
function decoded(bodies: readonly PartBody[]) {
  const tail = { committedAtUs: 1, traceparents: [], inputs: [] };
  const messages = seal(encodeFrame(null, { epoch: 1, sequence: 2 }, bodies, tail), 7n);
  return messages.map((bytes) => {
    const { message } = StreamResponse.decode(bytes);
    if (message?.$case !== 'frame') throw new Error('not a frame');
    return { frame: message.value, bytes: bytes.length };
  });
}

describe('a snapshot', () => {
  test('is cut into messages of at most 256 KiB that name every entry once', () => {
    const ruleSet = entries(1000);
    const parts = decoded(new ClassBuckets(ruleSet).snapshot(none));
    expect(parts.length).toBeGreaterThan(2);
    expect(Math.max(...parts.map(({ bytes }) => bytes))).toBeLessThanOrEqual(256 * 1024);
    expect(parts.map(({ frame }) => frame.more)).toEqual(parts.map((_, i) => i < parts.length - 1));
    expect(parts.map(({ frame }) => frame.repair?.all)).toEqual(parts.map(() => true));
    expect(parts.map(({ frame }) => frame.digest.length)).toEqual(parts.map((_, i) => (i < parts.length - 1 ? 0 : 8)));
    const keys = parts.flatMap(({ frame }) => frame.changes.map(({ key }) => key));
    expect(keys.toSorted()).toEqual([...ruleSet.keys()].toSorted());
  });

  test('has a node its own entries instead of its class, once', () => {
    const ruleSet = entries(1000);
    const own = entry(3, [99]);
    const extra = entry(5000, [1]);
    const overrides = new Map([
      [own.key, own],
      [entry(4).key, null],
      [extra.key, extra],
    ]);
    const changes = decoded(new ClassBuckets(ruleSet).snapshot(overrides)).flatMap(({ frame }) => frame.changes);
    expect(changes).toHaveLength(1000);
    expect(changes.find(({ key }) => key === own.key)?.upserted).toHaveLength(1);
    expect(changes.some(({ key }) => key === entry(4).key)).toBe(false);
    expect(changes.some(({ key }) => key === extra.key)).toBe(true);
  });

  test('sends an entry that alone exceeds a message in one of its own', () => {
    const giant = entry(
      0,
      Array.from({ length: 30_000 }, (_, k) => k),
    );
    const ruleSet = new Map([...entries(100), [giant.key, giant] as const]);
    const overridden = new Map(
      [...ruleSet.values()].filter(({ key }) => bucketOf(key) === bucketOf(giant.key)).map((one) => [one.key, one]),
    );
    for (const overrides of [none, overridden]) {
      const parts = decoded(new ClassBuckets(ruleSet).snapshot(overrides));
      const keys = parts.flatMap(({ frame }) => frame.changes.map(({ key }) => key));
      expect(keys.toSorted()).toEqual([...ruleSet.keys()].toSorted());
    }
  });

  test('follows the commits', () => {
    const ruleSet = entries(10);
    const buckets = new ClassBuckets(ruleSet);
    buckets.snapshot(none);
    const gone = entry(1);
    const changed = entry(2, [1]);
    buckets.update([
      { key: gone.key, before: gone, after: null },
      { key: changed.key, before: entry(2), after: changed },
    ]);
    const changes = decoded(buckets.snapshot(none)).flatMap(({ frame }) => frame.changes);
    expect(changes).toHaveLength(9);
    expect(changes.find(({ key }) => key === changed.key)?.upserted).toHaveLength(1);
  });
});

test('a repair describes the buckets it is asked for, empty ones too', () => {
  const one = entry(1);
  const empty = (bucketOf(one.key) + 1) % bucketCount;
  const buckets = [bucketOf(one.key), empty].toSorted((a, b) => a - b);
  const [part] = decoded(new ClassBuckets(new Map([[one.key, one]])).repair(buckets, none));
  expect(part?.frame.repair).toEqual({ all: false, buckets });
  expect(part?.frame.changes.map(({ key }) => key)).toEqual([one.key]);
});
