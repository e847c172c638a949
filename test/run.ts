/**
 * `npm test`: every test that this machine can run. Skips are listed with their reason; the last line is
 * "N passed, N failed, N skipped". Arguments are vitest filters: `npm test -- services/model`.
 */
import type { TestCase } from 'vitest/node';

if (!process.stdout.isTTY) process.env['NO_COLOR'] = '1';
// Loaded after that, because it looks at the environment once.
const { startVitest } = await import('vitest/node');

const vitest = await startVitest('test', process.argv.slice(2), { watch: false, reporters: ['default'] });
const modules = vitest.state.getTestModules();
const tests = modules.flatMap((module) => [...module.children.allTests()]);
const inState = (state: ReturnType<TestCase['result']>['state']) =>
  tests.filter((test) => test.result().state === state);

const skipped = inState('skipped');
for (const test of skipped) {
  const result = test.result();
  const why = (result.state === 'skipped' && result.note) || 'no reason given';
  console.log(`skipped: ${test.module.relativeModuleId} > ${test.fullName}: ${why}`);
}
const passed = inState('passed').length;
const brokenFiles = modules.filter((module) => module.errors().length > 0).length;
// A hook that fails skips the tests of its suite: they must not pass for skipped.
const brokenSuites = modules.flatMap((module) =>
  [...module.children.allSuites()].filter((suite) => suite.errors().length > 0),
).length;
const unhandled = vitest.state.getUnhandledErrors().length;
const failed = tests.length - passed - skipped.length + brokenFiles + brokenSuites + unhandled;
await vitest.close();
if (tests.length === 0) console.log('no test was found');
console.log(`${passed} passed, ${failed} failed, ${skipped.length} skipped`);
process.exit(failed > 0 || tests.length === 0 ? 1 : 0);
