import { compareEndpoints, type Endpoint } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assignSlots, type Slots, sameEndpoint } from './slots.ts';

const endpoint = (n: number): Endpoint => ({ ip: `10.244.1.${n}`, port: 8080, flags: 1 });
const endpoints = fc.uniqueArray(fc.integer({ min: 1, max: 20 }), { maxLength: 20 }).map((list) => list.map(endpoint));
const sorted = (list: Slots): Endpoint[] => [...list].sort(compareEndpoints);
const changedIndexes = (a: Slots, b: Slots): number =>
  Array.from({ length: Math.max(a.length, b.length) }).filter((_, i) => !sameEndpoint(a[i], b[i])).length;

describe('assignSlots', () => {
  it('moves the last endpoint into the place of one that leaves', () => {
    expect(assignSlots([1, 2, 3, 4].map(endpoint), [1, 3, 4].map(endpoint))).toEqual([1, 4, 3].map(endpoint));
  });

  it('puts a new endpoint where one left', () => {
    expect(assignSlots([1, 2, 3].map(endpoint), [1, 3, 9].map(endpoint))).toEqual([1, 9, 3].map(endpoint));
  });

  it('takes over new flags in place', () => {
    const local = { ...endpoint(2), flags: 3 };
    expect(assignSlots([1, 2].map(endpoint), [endpoint(1), local])[1]).toBe(local);
  });

  it('holds exactly what is wanted, without holes, and changes no more indexes than it must', () => {
    fc.assert(
      fc.property(endpoints, endpoints, (held, wanted) => {
        const next = assignSlots(held, wanted);
        expect(sorted(next)).toEqual(sorted(wanted));
        const left = held.filter((a) => !wanted.some((b) => sameEndpoint(a, b))).length;
        const came = wanted.filter((a) => !held.some((b) => sameEndpoint(a, b))).length;
        expect(changedIndexes(held, next)).toBeLessThanOrEqual(Math.max(left, came) + Math.max(0, left - came));
      }),
    );
  });
});
