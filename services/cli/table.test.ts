import { expect, test } from 'vitest';
import { table } from './table.ts';

test('columns align, the last one is not padded', () => {
  expect(
    table(
      ['NAME', 'STATE', 'WHY'],
      [
        ['a', 'current', '-'],
        ['node-10', 'late', 'slow'],
      ],
    ),
  ).toBe('NAME     STATE    WHY\na        current  -\nnode-10  late     slow\n');
});

test('colours do not count as width', () => {
  expect(table(['S', 'X'], [['\u001b[32mok\u001b[39m', 'y']])).toBe('S   X\n\u001b[32mok\u001b[39m  y\n');
});

test('no rows is a header', () => {
  expect(table(['A', 'B'], [])).toBe('A  B\n');
});
