import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Result } from './parity.ts';

/** Results of the last run of every driver, a file for each; not kept in the repository. */
const dir = fileURLToPath(new URL('../../../dist/parity', import.meta.url));

/** A run of a part of the suite replaces that part. */
export function writeResults(driver: string, results: readonly Result[]): void {
  mkdirSync(dir, { recursive: true });
  const merged = new Map([...resultsOf(fileOf(driver)), ...results].map((result) => [keyOf(result), result]));
  const sorted = [...merged].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, result]) => result);
  writeFileSync(fileOf(driver), `${JSON.stringify(sorted, null, 2)}\n`);
}

export function readResults(): readonly Result[] {
  mkdirSync(dir, { recursive: true });
  return readdirSync(dir).flatMap((file) => resultsOf(join(dir, file)));
}

const resultsOf = (file: string): readonly Result[] =>
  existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Result[]) : [];

const fileOf = (driver: string): string => join(dir, `${driver}.json`);

const keyOf = ({ scenario, families }: Result): string => `${scenario} ${families}`;
