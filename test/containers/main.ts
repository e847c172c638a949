/**
 * `npm run test:containers`: what runs in containers, on a real Docker engine: the one that runs, or one of our own for that time.
 * The last line is that of `npm test`. Arguments are vitest filters.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { openEngine } from '../support/containers/engine.ts';
import { buildImages, images } from '../support/containers/images.ts';

const say = (text: string) => process.stderr.write(`containers: ${text}\n`);
const stopped = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopped.abort(new Error(signal)));

process.exitCode = await main();

async function main(): Promise<number> {
  await using engine = await openEngine();
  process.env['DOCKER_HOST'] = engine.host;
  await buildImages(say);
  const run = join(import.meta.dirname, '../run.ts');
  const filters = process.argv.slice(2);
  const tests = spawn(process.execPath, [run, ...(filters.length > 0 ? filters : ['test/containers'])], {
    stdio: 'inherit',
    env: {
      ...process.env,
      ...images,
      OCTOPLANE_TEST_CONTAINERS: '1',
      // It would be pulled, to remove what tests leave when they are killed; the engine is ours, or its owner sees to that.
      TESTCONTAINERS_RYUK_DISABLED: 'true',
    },
  });
  stopped.signal.addEventListener('abort', () => tests.kill());
  const [code] = (await once(tests, 'exit')) as [number | null];
  return code ?? 1;
}
