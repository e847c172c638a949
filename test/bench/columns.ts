import { fileURLToPath } from 'node:url';
import { type Column, columnsNamed, lackOf } from '../support/scenarios/columns.ts';
import { runInGuest } from '../support/uml/guest.ts';
import type { Figure, Report } from './benchmark.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Drivers by `--driver NAME`, repeatable, each a name of docs/drivers.md's columns or of a driver, or `all`, the default: those to be
 * measured here, and those that this kernel lacks and a guest kernel has.
 * @throws RangeError when there is none of a name
 */
export async function placesOf(
  args: readonly string[],
): Promise<{ readonly here: readonly Column[]; readonly inGuest: readonly Column[] }> {
  const named = args.flatMap((arg, i) => (args[i - 1] === '--driver' ? [arg] : []));
  const places = { here: [] as Column[], inGuest: [] as Column[] };
  for (const column of columnsNamed(named.length > 0 ? named : ['all'])) {
    const isElsewhere = column.inGuest === true && (await lackOf(column)) !== null;
    (isElsewhere ? places.inGuest : places.here).push(column);
  }
  return places;
}

/** The same benchmark in the guest, where everything takes several times as long: only its ratios compare with the others'. */
export async function measureInGuest(
  name: string,
  args: readonly string[],
  report: Report,
  signal: AbortSignal,
): Promise<void> {
  let output = '';
  const code = await runInGuest({
    command: [process.execPath, 'test/bench/main.ts', name, ...args, '--json'],
    cwd: root,
    onOutput: (text) => {
      output += text;
    },
    signal,
  });
  if (code !== 0) throw new Error(`${name} in the guest ended with ${code}:\n${output}`);
  for (const line of output.split('\n').filter((each) => each.startsWith('{'))) {
    const { case: at, metric, value, unit, budget } = JSON.parse(line) as Figure;
    report({ case: `guest kernel: ${at}`, metric, value, unit, ...(budget !== undefined && { budget }) });
  }
}
