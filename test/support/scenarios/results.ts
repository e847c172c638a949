import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ColumnName } from './columns.ts';
import type { Result } from './parity.ts';

/** Results of the last run of every column, a file for each; not kept in the repository, nor in dist/, which `npm run build` empties. */
export const resultsDir = fileURLToPath(new URL('../../../node_modules/.cache/octoplane/parity', import.meta.url));

/** A run of a part of the suite replaces that part. */
export function writeResults(column: ColumnName, results: readonly Result[]): void {
  mkdirSync(resultsDir, { recursive: true });
  const merged = new Map([...resultsOf(fileOf(column)), ...results].map((result) => [keyOf(result), result]));
  const sorted = [...merged].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, result]) => result);
  writeFileSync(fileOf(column), `${JSON.stringify(sorted, null, 2)}\n`);
}

export function readResults(): readonly Result[] {
  mkdirSync(resultsDir, { recursive: true });
  return readdirSync(resultsDir).flatMap((file) => resultsOf(join(resultsDir, file)));
}

const resultsOf = (file: string): readonly Result[] =>
  existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Result[]) : [];

const fileOf = (column: ColumnName): string => join(resultsDir, `${column}.json`);

const keyOf = ({ scenario, families }: Result): string => `${scenario} ${families}`;
