import { expect, test } from 'vitest';
import { missingCapabilities } from './capabilities.ts';

const status = (...held: number[]) => {
  const bits = held.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
  return `Name:\tnode\nCapPrm:\tffffffffffffffff\nCapEff:\t${bits.toString(16).padStart(16, '0')}\nCapBnd:\tffffffffffffffff\n`;
};

test.each([
  ['all that is wanted', status(12, 21), []],
  ['none', status(), ['NET_ADMIN', 'SYS_ADMIN']],
  ['one of two', status(12, 22), ['SYS_ADMIN']],
  ['the other', status(21, 40), ['NET_ADMIN']],
])('%s', (_what, text, missing) => expect(missingCapabilities(['NET_ADMIN', 'SYS_ADMIN'], text)).toEqual(missing));
