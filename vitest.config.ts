import { defineConfig } from 'vitest/config';

/** Unit and property tests lie beside their sources; everything that needs a kernel lies under test/. */
export default defineConfig({
  test: {
    include: ['services/**/*.test.ts', 'test/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
