import { expect, test } from 'vitest';
import { age, duration } from './format.ts';

test.each([
  [0, '-'],
  [1, '1 us'],
  [999, '999 us'],
  [1_250, '1.3 ms'],
  [340_000, '340 ms'],
  [4_500_000, '4.5 s'],
  [180_000_000, '3m'],
])('%i microseconds read %s', (us, text) => {
  expect(duration(us)).toBe(text);
});

test.each([
  [0, '0s'],
  [119_000, '119s'],
  [120_000, '2m'],
  [7_200_000, '2h'],
  [172_800_000, '2d'],
])('an age of %i ms reads %s', (ms, text) => {
  expect(age(ms)).toBe(text);
});
