/**
 * Runs inside the guest: `node vitest-in-guest.ts RESULTS FILE...` runs the given test files and writes what became of each test
 * to RESULTS, for guest-tests.ts on the other side to tell.
 */
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestCase, TestModule } from 'vitest/node';
import { startVitest } from 'vitest/node';
import type { GuestResult, GuestResults } from './guest-tests.ts';

const [resultsPath, ...include] = process.argv.slice(2);
if (resultsPath === undefined) throw new Error('usage: vitest-in-guest.ts RESULTS FILE...');

const vitest = await startVitest(
  'test',
  [],
  {
    // The guest sees the checkout read-only, so nothing may be cached in it.
    config: false,
    watch: false,
    include,
    reporters: ['verbose'],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
  { cacheDir: join(tmpdir(), 'vite') },
);
const modules = vitest.state.getTestModules();
const results: GuestResults = {
  tests: modules.flatMap((module) => [...module.children.allTests()].map(resultOf)),
  failures: [
    ...modules.flatMap((module) => module.errors().map((error) => `${module.relativeModuleId}: ${textOf(error)}`)),
    // A hook that failed has skipped the tests of its suite.
    ...modules.flatMap((module) =>
      [...module.children.allSuites()].flatMap((suite) =>
        suite.errors().map((error) => `${module.relativeModuleId} > ${suite.fullName}: ${textOf(error)}`),
      ),
    ),
    ...vitest.state.getUnhandledErrors().map(textOf),
  ],
};
writeFileSync(resultsPath, JSON.stringify(results));
await vitest.close();
process.exit(0);

function resultOf(test: TestCase): GuestResult {
  const result = test.result();
  const { module }: { module: TestModule } = test;
  return {
    file: module.relativeModuleId,
    name: test.fullName,
    state: result.state,
    note: result.state === 'skipped' ? (result.note ?? '') : (result.errors ?? []).map(textOf).join('\n'),
  };
}

function textOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return String(error);
  const { message = '', stack = '', diff = '' }: { message?: string; stack?: string; diff?: string } = error;
  return [stack.includes(message) ? stack : `${message}\n${stack}`, diff].join('\n').trim();
}
