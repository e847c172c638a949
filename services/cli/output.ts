import { stringify } from 'yaml';
import type { OutputFormat } from './flags.ts';

/** What a verb shows: the answer for programs, or a table for people. */
export function show(answer: object, format: OutputFormat | undefined, asTable: (wide: boolean) => string): void {
  if (format === 'json') process.stdout.write(`${JSON.stringify(answer, null, 2)}\n`);
  else if (format === 'yaml') process.stdout.write(stringify(answer));
  else process.stdout.write(asTable(format === 'wide'));
}
