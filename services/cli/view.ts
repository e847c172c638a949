import { Metadata, status } from '@grpc/grpc-js';
import { type AdminServiceClient, WatchRequest, type WatchResponse } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import type { Command } from 'commander';
import { stringify } from 'yaml';
import { isServiceError, withClient } from './client.ts';
import { type ClientFlags, flag, withClientFlags } from './flags.ts';
import { show } from './output.ts';
import { terminationSignal } from './signals.ts';

export interface ViewFlags extends ClientFlags {
  readonly watch?: boolean;
}

/** Something that a verb shows, once or for as long as one looks. */
export interface View<Answer> {
  ask(client: AdminServiceClient): Promise<Answer>;
  toJson(answer: Answer): unknown;
  asTable(answer: Answer, wide: boolean): string;
}

/** Flags of every verb that shows the state of things. */
export const withViewFlags = (command: Command): Command =>
  withClientFlags(command).addOption(
    flag('-w, --watch', 'stay, and show what changes: redrawn on a terminal, otherwise a line for each change'),
  );

export function present<Answer>(flags: ViewFlags, view: View<Answer>): Promise<void> {
  return withClient(flags, async (client) => {
    if (flags.watch) await watch(client, flags, view);
    else {
      const answer = await view.ask(client);
      show(view.toJson(answer) as object, flags.output, (wide) => view.asTable(answer, wide));
    }
  });
}

async function watch<Answer>(client: AdminServiceClient, { output }: ViewFlags, view: View<Answer>): Promise<void> {
  const screen = process.stdout.isTTY && (output === undefined || output === 'wide') ? new Screen() : null;
  const lines = new ChangedLines();
  let redraw: () => void = () => undefined;
  // Between two answers it is only ages that grow.
  const ticks = screen ? setInterval(() => redraw(), 1000) : undefined;
  const call = client.watch(WatchRequest.create(), new Metadata());
  const signal = terminationSignal();
  signal.addEventListener('abort', () => call.cancel());
  try {
    for await (const _ of call as AsyncIterable<WatchResponse>) {
      const answer = await view.ask(client);
      if (output === 'json') process.stdout.write(`${JSON.stringify(view.toJson(answer))}\n`);
      else if (output === 'yaml') process.stdout.write(`---\n${stringify(view.toJson(answer))}`);
      else {
        const text = () => view.asTable(answer, output === 'wide');
        redraw = () => screen?.draw(text());
        if (screen) redraw();
        else process.stdout.write(lines.of(text()));
      }
    }
  } catch (error) {
    // Whoever watches ends it.
    if (!(signal.aborted && isServiceError(error) && error.code === status.CANCELLED)) throw error;
  } finally {
    clearInterval(ticks);
    screen?.close();
  }
}

/** Text that is written over, without a flicker and without wrapping. */
class Screen {
  constructor() {
    process.stdout.write('\u001b[2J\u001b[?7l');
  }

  draw(text: string): void {
    const lines = text.trimEnd().split('\n');
    const room = (process.stdout.rows || 24) - 1;
    const shown =
      lines.length > room ? [...lines.slice(0, room - 1), `... ${lines.length - room + 1} more lines`] : lines;
    process.stdout.write(`\u001b[H${shown.map((line) => `${line}\u001b[K\n`).join('')}\u001b[J`);
  }

  close(): void {
    process.stdout.write('\u001b[?7h');
  }
}

/** Of a text that is shown again and again, the lines that were not there the last time; how long ago something was changes nothing. */
export class ChangedLines {
  #before: ReadonlySet<string> = new Set();

  of(text: string): string {
    const lines = text.trimEnd().split('\n');
    const before = this.#before;
    this.#before = new Set(lines.map(meaning));
    return lines
      .filter((line) => line !== '' && !before.has(meaning(line)))
      .map((line) => `${line}\n`)
      .join('');
  }
}

/** Widths of columns follow their contents, so they are no change either. */
const meaning = (line: string): string => line.replaceAll(/\d+[smhd] ago/g, 'ago').replaceAll(/ +/g, ' ');
