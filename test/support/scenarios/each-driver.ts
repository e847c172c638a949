import type { DriverName } from '@octoplane/node/drivers/driver.ts';
import { describe, it } from 'vitest';
import { type Column, type ColumnName, columnNamed, columnsAskedFor, lackOf } from './columns.ts';

/**
 * A suite for every column that OCTOPLANE_TEST_DRIVERS asks for, by default nftables; for those that this kernel cannot run a skipped
 * test that says why.
 */
export async function describeEachDriver(suite: (driver: DriverName, column: Column) => void): Promise<void> {
  const asked = process.env['OCTOPLANE_TEST_DRIVERS'] ? columnsAskedFor() : [columnNamed('nftables')];
  for (const column of asked) await describeColumn(column, () => suite(column.driver, column));
}

/** A suite for one column, unless others were asked for. */
export async function describeDriver(name: ColumnName, suite: (column: Column) => void): Promise<void> {
  const column = columnNamed(name);
  if (columnsAskedFor().includes(column)) return describeColumn(column, () => suite(column));
  describe(name, () => it('was asked for', (context) => context.skip('OCTOPLANE_TEST_DRIVERS does not name it')));
}

/** @throws Error in a guest that cannot run what it was started for */
async function describeColumn(column: Column, suite: () => void): Promise<void> {
  const lacks = await lackOf(column);
  if (lacks !== null && process.env['OCTOPLANE_IN_GUEST']) throw new Error(`${column.name} in the guest: ${lacks}`);
  const reason = column.inGuest ? `${lacks}; its tests run in a guest: test/kernel/ipvs` : lacks;
  describe(column.name, () => {
    if (lacks === null) suite();
    else it('runs on this kernel', (context) => context.skip(`${reason}`));
  });
}
