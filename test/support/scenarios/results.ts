import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Result } from './parity.ts';

/** Results of the last run of every driver, a file for each; not kept in the repository. */
const dir = fileURLToPath(new URL('../../../dist/parity', import.meta.url));

export function writeResults(driver: string, results: readonly Result[]): void {
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, `${driver}.json`), `${JSON.stringify(results, null, 2)}\n`);
}

export function readResults(): readonly Result[] {
  mkdirSync(dir, { recursive: true });
  return readdirSync(dir).flatMap((file) => JSON.parse(readFileSync(join(dir, file), 'utf8')) as Result[]);
}
