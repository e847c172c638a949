import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Block, blockSize, Slots } from './slots.ts';

const capacity = 256;

it('never gives a slot twice, and has all of them back in the end', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat(40), fc.constant(null)), { maxLength: 200 }), (steps) => {
      const slots = new Slots(capacity);
      const taken: Block[] = [];
      for (const count of steps) {
        if (count === null) {
          const block = taken.shift();
          if (block) slots.release(block);
          continue;
        }
        const fits = slots.fits([count]);
        const start = slots.take(count);
        expect(start !== null).toBe(fits);
        if (start !== null && count > 0) taken.push({ start, count });
        expect(overlaps(taken)).toBe(false);
        expect(slots.used).toBe(taken.reduce((sum, block) => sum + blockSize(block.count), 0));
      }
      for (const block of taken) slots.release(block);
      expect(slots.take(capacity)).toBe(0);
    }),
  );
});

it('starts from blocks that are taken, and gives out only what lies between them', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 12 }), fc.nat(), (counts, seed) => {
      const first = new Slots(capacity);
      const blocks = counts.flatMap((count) => {
        const start = first.take(count);
        return start === null ? [] : [{ start, count }];
      });
      const kept = blocks.filter((_, i) => (seed >> i) & 1);
      const slots = new Slots(capacity, kept);
      expect(slots.used).toBe(kept.reduce((sum, { count }) => sum + blockSize(count), 0));
      for (let start = slots.take(1); start !== null; start = slots.take(1)) kept.push({ start, count: 1 });
      expect(overlaps(kept)).toBe(false);
      expect(slots.used).toBe(capacity);
    }),
  );
});

it('knows whether many blocks fit together without taking any', () => {
  const slots = new Slots(16);
  expect(slots.fits([8, 4, 4])).toBe(true);
  expect(slots.fits([8, 4, 4, 1])).toBe(false);
  expect(slots.fits([9, 1])).toBe(false);
  expect(slots.used).toBe(0);
});

function overlaps(blocks: readonly Block[]): boolean {
  const owner = new Set<number>();
  for (const { start, count } of blocks)
    for (let slot = start; slot < start + blockSize(count); slot++) {
      if (owner.has(slot)) return true;
      owner.add(slot);
    }
  return false;
}
