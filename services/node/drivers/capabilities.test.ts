import { expect, test } from 'vitest';
import { missingCapabilities } from './capabilities.ts';

const status = (...held: number[]) => {
  const bits = held.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
  return `Name:\tnode\nCapPrm:\tffffffffffffffff\nCapEff:\t${bits.toString(16).padStart(16, '0')}\nCapBnd:\tffffffffffffffff\n`;
};

test.each([
  ['all that is wanted', status(12, 38, 39), []],
  ['none', status(), ['NET_ADMIN', 'BPF', 'PERFMON']],
  ['a higher number than 32', status(12, 38), ['BPF']],
  ['what SYS_ADMIN grants', status(12, 21), []],
  ['what SYS_ADMIN does not grant', status(21), ['NET_ADMIN']],
])('%s', (_what, text, missing) => expect(missingCapabilities(['NET_ADMIN', 'BPF', 'PERFMON'], text)).toEqual(missing));
