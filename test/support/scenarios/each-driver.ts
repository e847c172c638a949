import type { DriverName } from '@octoplane/node/drivers/driver.ts';
import { describe, it } from 'vitest';
import { driversToTest } from './drivers.ts';

/** A suite for every driver that this machine can run; for the others one skipped test that says what is missing. */
export async function describeEachDriver(suite: (driver: DriverName) => void): Promise<void> {
  for (const { name, lacks } of await driversToTest()) {
    describe(name, () => {
      if (lacks === null) suite(name);
      else it('runs here', (context) => context.skip(lacks));
    });
  }
}
