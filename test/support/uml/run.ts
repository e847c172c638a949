/**
 * `npm run guest -- COMMAND [ARGUMENT...]`: runs a command of this machine on a kernel that has IPVS, for example
 * `npm run guest -- npm run demo -- --driver ipvs`. Ends with the command's exit code, and after ten minutes at the latest.
 */
import { runInGuest } from './guest.ts';

const [program, ...args] = process.argv.slice(2);
if (program === undefined) {
  console.error('usage: npm run guest -- COMMAND [ARGUMENT...]');
  process.exit(2);
}
const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.once(name, () => interrupted.abort(new Error(`ended by ${name}`)));

try {
  process.exitCode = await runInGuest({
    command: [program, ...args],
    onOutput: (text) => process.stdout.write(text),
    signal: AbortSignal.any([interrupted.signal, AbortSignal.timeout(600_000)]),
  });
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
