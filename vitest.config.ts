import { defineConfig } from 'vitest/config';

/**
 * `unit`: pure code and loopback sockets, beside the sources, in parallel. `kernel`: everything that makes network
 * namespaces, one file after the other, because the machine's cores are part of what it tests.
 */
export default defineConfig({
  test: {
    projects: [
      {
        test: { name: 'unit', include: ['services/**/*.test.ts', 'test/support/**/*.test.ts'], testTimeout: 60_000 },
      },
      {
        test: {
          name: 'kernel',
          include: ['test/{contract,kernel,e2e,scenarios}/**/*.test.ts'],
          // Twelve minutes in a user-mode kernel: `OCTOPLANE_TEST_GUEST=1 npm test -- test/kernel/ipvs`.
          exclude: process.env['OCTOPLANE_TEST_GUEST'] ? [] : ['test/kernel/ipvs/**'],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
