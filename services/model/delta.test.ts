import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ruleSet } from '../../test/support/rule-sets.ts';
import { apply, changesBetween, changesOf, type Delta, DeltaError, diff } from './delta.ts';
import type { ServicePortKey } from './keys.ts';
import { compareEndpoints, entriesEqual, type RuleSet } from './rule-set.ts';

const size = (delta: Delta): number =>
  [...delta.values()].reduce(
    (sum, part) => sum + (part.t === 'removed' ? 1 : part.upserted.length + part.removed.length),
    0,
  );

describe('laws', () => {
  test('apply(a, diff(a, b)) = b', () => {
    fc.assert(
      fc.property(ruleSet, ruleSet, (a, b) => {
        expect(apply(a, diff(a, b))).toEqual(b);
      }),
    );
  });

  test('diff(a, a) is empty', () => {
    fc.assert(
      fc.property(ruleSet, (a) => {
        expect(diff(a, structuredClone(a)).size).toBe(0);
      }),
    );
  });

  test('applying leaves the base, and whatever is not named, as it is', () => {
    fc.assert(
      fc.property(ruleSet, ruleSet, (a, b) => {
        const before = structuredClone(a);
        const delta = diff(a, b);
        const after = apply(a, delta);
        expect(a).toEqual(before);
        for (const [key, entry] of a) if (!delta.has(key)) expect(after.get(key)).toBe(entry);
      }),
    );
  });

  test('a delta names no endpoint that stays as it is', () => {
    fc.assert(
      fc.property(ruleSet, ruleSet, (a, b) => {
        for (const [key, part] of diff(a, b)) {
          if (part.t === 'removed') continue;
          const held = a.get(key)?.endpoints ?? [];
          const wanted = b.get(key)?.endpoints ?? [];
          for (const endpoint of part.upserted)
            expect(
              held.some((other) => compareEndpoints(other, endpoint) === 0 && other.flags === endpoint.flags),
            ).toBe(false);
          for (const id of part.removed) expect(wanted.some((other) => compareEndpoints(other, id) === 0)).toBe(false);
        }
      }),
    );
  });

  test('changes and deltas say the same', () => {
    fc.assert(
      fc.property(ruleSet, ruleSet, (a, b) => {
        const between = [...changesBetween(a, b)].sort((x, y) => (x.key < y.key ? -1 : 1));
        const of = changesOf(a, diff(a, b)).sort((x, y) => (x.key < y.key ? -1 : 1));
        expect(of.map(({ key }) => key)).toEqual(between.map(({ key }) => key));
        of.forEach((change, i) => {
          expect(entriesEqual(change.after, between[i]?.after ?? null)).toBe(true);
        });
      }),
    );
  });
});

describe('deltas that do not fit', () => {
  const key = 'default/a:80/TCP' as ServicePortKey;
  const empty: RuleSet = new Map();

  test.each([
    ['removes what is not held', { t: 'removed' }, 'is removed but not held'],
    ['changes what is not there', { t: 'changed', spec: null, upserted: [], removed: [] }, 'is new but has no header'],
  ] as const)('one that %s', (_, part, message) => {
    expect(() => apply(empty, new Map([[key, part]]))).toThrow(new DeltaError(key, message));
  });

  test('one that removes an endpoint that is not there', () => {
    fc.assert(
      fc.property(ruleSet, (a) => {
        for (const [name, entry] of a) {
          const gone = { ip: '10.244.9.9', port: 1 };
          const delta: Delta = new Map([[name, { t: 'changed', spec: null, upserted: [], removed: [gone] }]]);
          expect(() => apply(a, delta)).toThrow(DeltaError);
          expect(a.get(name)).toBe(entry);
        }
      }),
    );
  });
});

test('a change of one endpoint costs one endpoint', () => {
  fc.assert(
    fc.property(ruleSet, (a) => {
      for (const [name, entry] of a) {
        if (entry.endpoints.length === 0) continue;
        const b = new Map(a).set(name, { ...entry, endpoints: entry.endpoints.slice(1) });
        expect(size(diff(a, b))).toBe(1);
      }
    }),
  );
});
