import fc from 'fast-check';
import { expect, test } from 'vitest';
import { place } from './placement.ts';

const us = fc.nat({ max: 2 ** 32 - 1 });

test('work is placed in the middle of the window, and takes as long as the node said', () => {
  const window = { fromUs: 1000, toUs: 2000 };
  expect(place(window, { validatedUs: 100, appliedUs: 500, readBackUs: 600 })).toEqual({
    receive: { fromUs: 1000, toUs: 1200 },
    validate: { fromUs: 1200, toUs: 1300 },
    program: { fromUs: 1300, toUs: 1700 },
    readBack: { fromUs: 1700, toUs: 1800 },
  });
});

test('whatever a node says, its steps are within the window, in order and without gaps', () => {
  fc.assert(
    fc.property(fc.nat(), us, us, us, us, (fromUs, lengthUs, validatedUs, appliedUs, readBackUs) => {
      const window = { fromUs, toUs: fromUs + lengthUs };
      const placed = place(window, { validatedUs, appliedUs, readBackUs });
      const steps = [placed.receive, placed.validate, placed.program, placed.readBack];
      let cursor = fromUs;
      for (const step of steps) {
        expect(step.fromUs).toBe(cursor);
        expect(step.toUs).toBeGreaterThanOrEqual(step.fromUs);
        cursor = step.toUs;
      }
      expect(cursor).toBeLessThanOrEqual(window.toUs);
    }),
  );
});

test('nor does a window that a clock turned around make anything negative', () => {
  const { readBack } = place({ fromUs: 10, toUs: 5 }, { validatedUs: 1, appliedUs: 2, readBackUs: 3 });
  expect(readBack.toUs).toBeGreaterThanOrEqual(readBack.fromUs);
});
