/** Writes docs/drivers.md from the results of the last `npm test`: `node test/support/driver-matrix.ts`. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { driverMatrix } from './scenarios/parity.ts';
import { readResults } from './scenarios/results.ts';

const results = readResults();
if (results.length === 0) {
  console.error('there are no results: run "npm test -- test/kernel/scenarios" first');
  process.exit(1);
}
writeFileSync(fileURLToPath(new URL('../../docs/drivers.md', import.meta.url)), driverMatrix(results));
console.log(`docs/drivers.md: ${results.length} results`);
