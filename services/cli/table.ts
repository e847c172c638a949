import { styleText } from 'node:util';

/** Text in aligned columns, two spaces apart. Escape sequences of colours do not count as width. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => visibleLength(row[column] ?? ''))));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - visibleLength(cell)))
      .join('  ')
      .trimEnd();
  return `${all.map(line).join('\n')}\n`;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character is what is looked for
const visibleLength = (text: string): number => text.replace(/\u001b\[\d+m/g, '').length;

export type Tone = 'good' | 'warn' | 'bad' | 'dim';
const styles = { good: 'green', warn: 'yellow', bad: 'red', dim: 'dim' } as const;

/** Coloured on a terminal only, and never with NO_COLOR. */
export const tone = (tone: Tone, text: string): string =>
  styleText(styles[tone], text, { stream: process.stdout, validateStream: true });
