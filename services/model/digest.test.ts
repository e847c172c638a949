import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ruleSet } from '../../test/support/rule-sets.ts';
import { changesBetween } from './delta.ts';
import {
  bucketCount,
  bucketOf,
  DigestSums,
  digestFromBytes,
  digestOf,
  digestToBytes,
  entryDifference,
  formatDigest,
  wrap,
} from './digest.ts';
import type { ServicePortKey } from './keys.ts';
import type { Entry, RuleSet } from './rule-set.ts';

const key = 'default/web:80/TCP' as ServicePortKey;

const web: Entry = {
  key,
  spec: {
    clusterIps: ['10.96.0.10', 'fd00:96::10'],
    externalIps: [],
    loadBalancerIps: [],
    nodePort: 30_080,
    internalPolicy: 'Cluster',
    externalPolicy: 'Local',
    affinityTimeoutSeconds: 0,
    sourceRanges: ['192.0.2.0/24'],
    healthCheckNodePort: 0,
    usableFamilies: 1,
  },
  endpoints: [{ ip: '10.244.1.1', port: 8080, flags: 1 }],
};

describe('laws', () => {
  test('the order of arrival makes no difference', () => {
    fc.assert(
      fc.property(ruleSet, (a) => {
        const reversed: RuleSet = new Map([...a].reverse());
        expect(digestOf(structuredClone(reversed))).toBe(digestOf(a));
      }),
    );
  });

  test('keeping sums up to date comes to the same as summing anew', () => {
    fc.assert(
      fc.property(fc.array(ruleSet, { maxLength: 5 }), (sets) => {
        const sums = new DigestSums();
        let held: RuleSet = new Map();
        for (const next of sets) {
          const copy = sums.clone();
          for (const { before, after } of changesBetween(held, next)) sums.replace(before, after);
          expect(copy.total).toBe(digestOf(held));
          held = next;
          expect(sums.total).toBe(digestOf(held));
          expect(sums.toBytes().equals(DigestSums.of(held).toBytes())).toBe(true);
        }
      }),
    );
  });

  test('the total is the sum of the buckets, and each entry is in the bucket of its key', () => {
    fc.assert(
      fc.property(ruleSet, (a) => {
        const sums = DigestSums.of(a);
        let total = 0n;
        for (let i = 0; i < bucketCount; i++) {
          total = wrap(total + sums.bucket(i));
          const own = new Map([...a].filter(([name]) => bucketOf(name) === i));
          expect(sums.bucket(i)).toBe(own.size === 0 ? 0n : digestOf(own));
        }
        expect(total).toBe(sums.total);
      }),
      { numRuns: 10 },
    );
  });

  test('differences add up', () => {
    fc.assert(
      fc.property(ruleSet, ruleSet, (a, b) => {
        let sum = digestOf(a);
        for (const { before, after } of changesBetween(a, b)) sum = wrap(sum + entryDifference(before, after));
        expect(sum).toBe(digestOf(b));
      }),
    );
  });

  test('different rule sets have different digests', () => {
    fc.assert(
      fc.property(ruleSet, ruleSet, (a, b) => {
        if (changesBetween(a, b).next().done) expect(digestOf(a)).toBe(digestOf(b));
        else expect(digestOf(a)).not.toBe(digestOf(b));
      }),
    );
  });
});

test('the values that every replica and release must agree on', () => {
  // XXH64 of "H|default/web:80/TCP|10.96.0.10,fd00:96::10|||30080|1|2|0|192.0.2.0/24|0|1" and of
  // "E|default/web:80/TCP|10.244.1.1|8080|1", as rules.proto says. These change only with `schema`.
  expect(formatDigest(digestOf(new Map([[key, { ...web, endpoints: [] }]])))).toMatchInlineSnapshot(
    `"e750b62c22992116"`,
  );
  expect(formatDigest(digestOf(new Map([[key, web]])))).toMatchInlineSnapshot(`"98331aea67c3d3d4"`);
  expect(bucketOf(key)).toMatchInlineSnapshot(`175`);
});

test('bytes are big endian, and 8', () => {
  expect([...digestToBytes(1n)]).toEqual([0, 0, 0, 0, 0, 0, 0, 1]);
  fc.assert(
    fc.property(
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      (digest) => digestFromBytes(digestToBytes(digest)) === digest,
    ),
  );
  expect(digestFromBytes(Buffer.alloc(7))).toBeNull();
});
