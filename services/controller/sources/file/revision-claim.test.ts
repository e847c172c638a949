import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RevisionClaim } from './revision-claim.ts';

test('a change is vouched for when everything before it has been read, not when it is seen', () => {
  const claim = new RevisionClaim();
  claim.seen(100);
  claim.seen(300);
  expect(claim.revision).toBe(0);
  claim.claim(101);
  expect(claim.revision).toBe(100);
  expect(claim.newestUnclaimed).toBe(300);
  claim.claim(301);
  expect(claim.revision).toBe(300);
  expect(claim.newestUnclaimed).toBe(0);
});

test('the revision never decreases, never passes the limit, and is a time that was seen', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ seen: fc.array(fc.nat(1_000)), limit: fc.nat(1_000) })), (rounds) => {
      const claim = new RevisionClaim();
      const all = new Set([0]);
      for (const { seen, limit } of rounds) {
        const before = claim.revision;
        for (const at of seen) {
          claim.seen(at);
          all.add(at);
        }
        claim.claim(limit);
        expect(claim.revision).toBeGreaterThanOrEqual(before);
        expect(all).toContain(claim.revision);
        if (claim.revision > before) expect(claim.revision).toBeLessThan(limit);
      }
    }),
  );
});
