/** `npm run check`: format, lint, types, and the protocol: its rules, its compatibility, and the code generated from it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const scratch = mkdtempSync(join(tmpdir(), 'octoplane-check-'));
const steps: readonly (readonly [what: string, command: string, ...args: string[]])[] = [
  ['format and lint', 'biome', 'check', '--error-on-warnings', '.'],
  ['types', 'tsc', '--noEmit', '-p', '.'],
  ['protocol rules', 'buf', 'lint'],
  ['protocol format', 'buf', 'format', '--diff', '--exit-code'],
  ['protocol compatibility', 'buf', 'breaking', '--against', `.git#ref=${comparedWith()}`],
  ['generate code', 'buf', 'generate', '-o', scratch],
  ['generated code is up to date', 'diff', '-r', join(scratch, 'services/model/gen'), 'services/model/gen'],
];

let failed = 0;
for (const [what, command, ...args] of steps) {
  const result = spawnSync(command, args, { encoding: 'utf8' });
  const ok = result.status === 0;
  if (!ok) failed++;
  console.log(`${ok ? 'ok    ' : 'FAILED'}  ${what}`);
  if (!ok) console.log(`${result.stdout ?? ''}${result.stderr ?? result.error?.message ?? ''}`);
}
rmSync(scratch, { recursive: true });
if (failed > 0) console.log('npx biome check --write . mends format; npm run generate renews generated code');
process.exit(failed > 0 ? 1 : 0);

/** The last release; before the first one, the last commit. */
function comparedWith(): string {
  const tag = spawnSync('git', ['describe', '--tags', '--abbrev=0', '--match', 'v*'], { encoding: 'utf8' });
  return tag.status === 0 ? tag.stdout.trim() : 'HEAD';
}
