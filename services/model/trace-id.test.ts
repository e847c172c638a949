import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fanOutSpanIdOf, rootSpanIdOf, traceIdOf } from './trace-id.ts';

const version = fc.record({ epoch: fc.maxSafeNat(), sequence: fc.maxSafeNat() });

test('ids have the form of W3C Trace Context', () => {
  fc.assert(
    fc.property(version, (one) => {
      expect(traceIdOf(one)).toMatch(/^(?!0{32})[0-9a-f]{32}$/);
      for (const id of [rootSpanIdOf(one), fanOutSpanIdOf(one)]) expect(id).toMatch(/^(?!0{16})[0-9a-f]{16}$/);
      expect(rootSpanIdOf(one)).not.toBe(fanOutSpanIdOf(one));
    }),
  );
});

test('the same version has the same trace, and every version another', () => {
  fc.assert(
    fc.property(version, version, (a, b) => {
      const isSame = a.epoch === b.epoch && a.sequence === b.sequence;
      expect(traceIdOf(a) === traceIdOf(b)).toBe(isSame);
    }),
  );
});

test('a release knows the ids of another: they never change', () => {
  expect(traceIdOf({ epoch: 1_800_000_000_000, sequence: 7 })).toMatchInlineSnapshot(
    `"ef860d9aa8536d4169e29e2b66994324"`,
  );
});
