import { expect, test } from 'vitest';
import { projected, syntheticService, syntheticSlices } from '../../../test/support/synthetic.ts';
import { isSuspiciousLoss } from './loss-guard.ts';

const options = { services: 200, endpoints: 10 };
const slices = (count: number) =>
  Array.from({ length: count }, (_, i) =>
    syntheticSlices(i, options).map((slice) => ({ object: projected(slice) })),
  ).flat();
const services = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ object: projected(syntheticService(i, options)) }));

test.each([
  ['most endpoints of a large directory', { services: 200, endpoints: 2000 }, slices(101), true],
  ['half of them', { services: 200, endpoints: 2000 }, slices(100), false],
  ['all of a small one', { services: 9, endpoints: 90 }, [...slices(9), ...services(9)], false],
  ['most Services of a large one, whose endpoints stay', { services: 30, endpoints: 300 }, services(20), true],
  ['a few of many', { services: 200, endpoints: 2000 }, [...slices(5), ...services(5)], false],
  ['nothing', { services: 200, endpoints: 2000 }, [], false],
])('%s', (_, told, missing, suspicious) => {
  expect(isSuspiciousLoss(told, missing, {}).t).toBe(suspicious ? 'suspicious' : 'plausible');
});
