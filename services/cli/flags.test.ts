import { InvalidArgumentError } from 'commander';
import { describe, expect, test } from 'vitest';
import { address, addresses, durationMs, flag, list } from './flags.ts';

test('every flag has its environment variable', () => {
  expect(flag('--tls-cert <file>', '').envVar).toBe('OCTOPLANE_TLS_CERT');
});

describe('durations', () => {
  test.each([
    ['500ms', 500],
    ['60s', 60_000],
    ['1h30m', 5_400_000],
    ['1.5s', 1_500],
  ])('%s', (text, ms) => expect(durationMs(text)).toBe(ms));

  test.each(['', '5', '5x', 's', '5s ', '-5s', '5 s'])('%j is refused', (text) =>
    expect(() => durationMs(text)).toThrow(InvalidArgumentError),
  );
});

describe('addresses', () => {
  test.each(['127.0.0.1:12090', '[::1]:12090', 'brain.example:1', 'unix:/run/octoplane.sock'])('%s', (text) =>
    expect(address(text)).toBe(text),
  );
  test.each(['', 'host', ':1', '::1:12090', 'host:70000', 'unix:', 'a b:1'])('%j is refused', (text) =>
    expect(() => address(text)).toThrow(InvalidArgumentError),
  );
  test('commas and repetition collect', () =>
    expect(addresses('a:1,b:2', addresses('c:3', undefined))).toEqual(['c:3', 'a:1', 'b:2']));
});

test('lists drop empty parts', () => expect(list('a,, b', undefined)).toEqual(['a', 'b']));
