import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { allScenarios } from './all.ts';
import type { ColumnName } from './columns.ts';
import { driverMatrix, parityRows, provedElsewhere, type Result, uncoveredRows } from './parity.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

describe('the parity table', () => {
  it('has 54 rows, and every one is told by a scenario or named with its reason', () => {
    expect(Object.keys(parityRows)).toHaveLength(54);
    expect(uncoveredRows(allScenarios())).toEqual([]);
  });

  it.each(provedElsewhere.flatMap(({ row, tests }) => tests.map((file) => [row, file])))('%s: %s exists', (_, file) => {
    expect(existsSync(`${root}${file}`)).toBe(true);
  });

  it('says yes, in part and no, with reasons', () => {
    const result = (column: ColumnName, scenario: string, outcome: Result['outcome'], reason = ''): Result => ({
      column,
      families: 'IPv4',
      scenario,
      covers: ['P1'],
      outcome,
      reason,
    });
    const matrix = driverMatrix([
      result('nftables', 'a', 'passed'),
      result('ipvs', 'a', 'passed'),
      result('ipvs', 'b', 'not done', 'the kernel cannot'),
      result('iptables-legacy', 'a', 'failed'),
    ]);
    expect(matrix).toContain('| P1 | ClusterIP, spread over ready endpoints | yes | in part [1] | **no** [2] |');
    expect(matrix).toContain('[1] b: the kernel cannot.\n[2] fails: a (IPv4).');
    expect(matrix).toContain('| P2 | Named ports, several slices | not run | not run | not run |');
  });
});
