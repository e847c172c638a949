/** `npm run bench -- NAME [--json]`: one benchmark; without NAME the list. Exit code 0 whether budgets are met or not. */
import type { Benchmark, Figure } from './benchmark.ts';
import { met } from './benchmark.ts';
import { benchmarks } from './list.ts';

const args = process.argv.slice(2);
const json = args.includes('--json');
const [name, ...rest] = args.filter((arg) => arg !== '--json');

const benchmark = benchmarks.find((candidate) => candidate.name === name);
if (benchmark) await measure(benchmark);
else listAll();

async function measure({ name: bench, run }: Benchmark): Promise<void> {
  const abort = new AbortController();
  process.once('SIGINT', () => abort.abort(new Error('interrupted')));
  const figures: Figure[] = [];
  const report = (figure: Figure) => {
    figures.push(figure);
    if (json) console.log(JSON.stringify(toJson(bench, figure)));
    else if (process.stderr.isTTY) process.stderr.write(`\r${figures.length} figures ...`);
  };
  await run(report, abort.signal, rest);
  if (!json) printTable(figures);
}

function toJson(bench: string, figure: Figure): object {
  const { case: caseName, metric, value, unit, budget } = figure;
  return { bench, case: caseName, metric, value, unit, budget, met: met(figure) };
}

function printTable(figures: readonly Figure[]): void {
  if (process.stderr.isTTY) process.stderr.write('\r');
  const rows = figures.map((figure) => [
    figure.case,
    figure.metric,
    `${readable(figure.value)} ${figure.unit}`,
    figure.budget === undefined ? '' : `${figure.atLeast ? '>=' : '<='} ${readable(figure.budget)}`,
    { true: 'met', false: 'MISSED', undefined: '' }[String(met(figure))] ?? '',
  ]);
  const all = [['case', 'metric', 'value', 'budget', ''], ...rows];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  for (const row of all)
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    );
}

/** Three significant digits, without exponents. */
function readable(value: number): string {
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1)));
  return value.toLocaleString('en-US', { maximumFractionDigits: Math.min(digits, 6) });
}

function listAll(): void {
  if (name !== undefined) {
    console.error(`There is no benchmark "${name}". These are:`);
    process.exitCode = 2;
  }
  const width = Math.max(0, ...benchmarks.map((one) => one.name.length));
  for (const { name: one, summary } of benchmarks) console.log(`${one.padEnd(width)}  ${summary}`);
}
