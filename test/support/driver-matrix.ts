/** Writes docs/drivers.md from the results of the last `npm test`: `node test/support/driver-matrix.ts`. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { driverMatrix } from './scenarios/parity.ts';
import { readResults } from './scenarios/results.ts';

const results = readResults();
if (results.length === 0) {
  console.error('there are no results: run "npm test -- test/kernel/scenarios" first');
  process.exit(1);
}
const root = fileURLToPath(new URL('../../', import.meta.url));
const file = join(root, 'docs/drivers.md');
writeFileSync(file, driverMatrix(results));
// Tables aligned as in every other document.
execFileSync(join(root, 'node_modules/.bin/biome'), ['format', '--write', file], { cwd: root, stdio: 'pipe' });
console.log(`docs/drivers.md: ${results.length} results`);
