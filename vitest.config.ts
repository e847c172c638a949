import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

const containers = {
  test: {
    name: 'containers',
    include: ['test/containers/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
};

/**
 * `unit`: pure code and loopback sockets, beside the sources, in parallel. `drivers`: a file for each driver, in a lab or a guest
 * kernel of its own; three at a time, because they wait more than they work. `kernel`: everything else that makes network
 * namespaces, one file after the other, because the machine's cores are part of what it tests.
 */
const perDriver = ['test/kernel/{scenarios,ipvs}/**/*.test.ts'];
/** Daemons are started hundreds of times: what Node has compiled once it starts in a third of the time. */
const env = { NODE_COMPILE_CACHE: join(import.meta.dirname, 'node_modules/.cache/octoplane/compiled') };
const patient = { testTimeout: 120_000, hookTimeout: 120_000 };

export default defineConfig({
  test: {
    projects: [
      // Needs a Docker engine, and images that npm run test:containers has built.
      ...(process.env['OCTOPLANE_TEST_CONTAINERS'] ? [containers] : []),
      {
        test: { name: 'unit', include: ['services/**/*.test.ts', 'test/support/**/*.test.ts'], testTimeout: 60_000 },
      },
      {
        test: {
          name: 'drivers',
          include: perDriver,
          env,
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
          ...patient,
        },
      },
      {
        test: {
          name: 'kernel',
          include: ['test/{contract,kernel,e2e,scenarios}/**/*.test.ts'],
          exclude: perDriver,
          env,
          fileParallelism: false,
          ...patient,
        },
      },
    ],
  },
});
