import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { scenariosRoot } from '../scenarios/all.ts';
import { columnsAskedFor } from '../scenarios/columns.ts';
import { resultsDir } from '../scenarios/results.ts';
import { type GuestJob, runInGuest } from './guest.ts';
import { guestIsLacking } from './modules.ts';

export interface GuestResults {
  readonly tests: readonly GuestResult[];
  /** What went wrong outside of any test. */
  readonly failures: readonly string[];
}

export interface GuestResult {
  readonly file: string;
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'skipped' | 'pending';
  /** Why it failed or was skipped. */
  readonly note: string;
}

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/**
 * Runs the test files that match, all in one guest, and makes a test of this file out of each of theirs. To be awaited at the
 * top level of a test file: a file's tests must be known before any of them starts.
 */
export async function guestTests(
  patterns: readonly string[],
  options: Pick<GuestJob, 'processor'> & { readonly timeoutMs: number },
): Promise<void> {
  const lacking = columnsAskedFor().some(({ inGuest }) => inGuest)
    ? guestIsLacking()
    : 'OCTOPLANE_TEST_DRIVERS names no driver for the guest';
  if (lacking !== null) {
    test('the guest kernel', ({ skip }) => skip(lacking));
    return;
  }
  const output: string[] = [];
  const outcome = await runFiles(globSync([...patterns], { cwd: root }).sort(), output, options);
  if (typeof outcome === 'string') {
    test('the guest kernel', () => expect.fail(`${outcome}\n${output.join('')}`));
    return;
  }
  for (const { file, name, state, note } of outcome.tests) {
    test(`${file} > ${name}`, ({ skip }) => {
      if (state === 'skipped') skip(note || 'no reason given');
      if (state !== 'passed') expect.fail(note || `${state} in the guest:\n${output.join('')}`);
    });
  }
  test('everything else in the guest', () => {
    expect(outcome.failures).toEqual([]);
    expect(outcome.tests.length, output.join('')).toBeGreaterThan(0);
  });
}

const updateGolden = process.env['UPDATE_GOLDEN'] === '1';

/** The results, or a sentence why there are none. */
async function runFiles(
  files: readonly string[],
  output: string[],
  { timeoutMs, ...job }: Parameters<typeof guestTests>[1],
): Promise<GuestResults | string> {
  const results: { text: string | null } = { text: null };
  try {
    await runInGuest({
      ...job,
      command: ['node', 'test/support/uml/vitest-in-guest.ts', '/run/job/results', ...files],
      cwd: root,
      writable: [resultsDir, ...(updateGolden ? [scenariosRoot] : [])],
      env: {
        NO_COLOR: '1',
        OCTOPLANE_TEST_DRIVERS: 'ipvs',
        UPDATE_GOLDEN: updateGolden ? '1' : '',
        PATH: `${join(root, 'node_modules/.bin')}:${process.env['PATH']}`,
      },
      onOutput: (text) => output.push(text),
      signal: AbortSignal.timeout(timeoutMs),
      collect: (dir) => {
        results.text = readFileSync(join(dir, 'results'), 'utf8');
      },
    });
  } catch (error) {
    return `the guest failed: ${error instanceof Error ? error.message : String(error)}`;
  }
  return results.text === null ? 'the guest wrote no results' : (JSON.parse(results.text) as GuestResults);
}
