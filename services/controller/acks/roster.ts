import { type NodeName, nodeName } from '@octoplane/model/keys.ts';
import type { Logger } from 'pino';
import type { Cancel, Clock } from '../clock.ts';
import { isRecord, parseState, StateFile } from '../state-file.ts';
import type { NodeBook } from './node-book.ts';
import type { NodeRecord } from './node-record.ts';

/** A node that a controller with this state directory has known. */
export interface RosterEntry {
  readonly name: NodeName;
  /** The daemon's own zone. */
  readonly zone: string;
  /** When it left; null: it was connected when this was written. */
  readonly leftAtMs: number | null;
}

const fileName = 'roster.json';

/** A fleet that comes back is thousands of changes within seconds, and one write a second is enough for a file that is read after a crash. */
const settleMs = 1000;

/**
 * Who was there, on disk: a controller that starts again knows whom it has yet to hear of, so that nothing that waits for every node ends
 * before they are back. At a crash the last second may be lost.
 */
export class Roster {
  /** As found at the start. */
  readonly entries: readonly RosterEntry[];
  readonly #file: StateFile;
  readonly #clock: Clock;
  readonly #now = new Map<NodeName, RosterEntry>();
  #later: Cancel | null = null;
  #stopWatching: () => void = () => undefined;

  private constructor(file: StateFile, entries: readonly RosterEntry[], clock: Clock) {
    this.#file = file;
    this.#clock = clock;
    this.entries = entries;
  }

  static async open(directory: string, clock: Clock, logger: Logger): Promise<Roster> {
    const file = await StateFile.open(directory, fileName, logger);
    const entries = file.text === null ? [] : parseRoster(file.text);
    if (entries === null) await file.putAside('nodes that are not back yet are not counted');
    return new Roster(file, entries ?? [], clock);
  }

  /** Writes down who comes, goes and is forgotten, until it is closed. */
  follow(book: Pick<NodeBook, 'watch' | 'records' | 'find'>): void {
    for (const record of book.records) this.#now.set(record.name, entryOf(record));
    this.#stopWatching = book.watch((record) => {
      const known = this.#now.get(record.name);
      const isForgotten = book.find(record.name) !== record;
      const entry = entryOf(record);
      if (isForgotten) this.#now.delete(record.name);
      else if (known?.zone === entry.zone && known.leftAtMs === entry.leftAtMs) return;
      else this.#now.set(record.name, entry);
      this.#later ??= this.#clock.after(settleMs, () => this.#save());
    });
  }

  /** That the controller goes away makes no node one that left: call it before streams are closed. */
  async close(): Promise<void> {
    this.#stopWatching();
    if (this.#later !== null) this.#save();
    await this.#file.flushed();
  }

  #save(): void {
    this.#later?.();
    this.#later = null;
    this.#file.save(() => formatRoster(this.#now.values()));
  }
}

const entryOf = ({ name, zone, connection }: NodeRecord): RosterEntry => ({
  name,
  zone,
  leftAtMs: connection.t === 'disconnected' ? Math.floor(connection.sinceUs / 1000) : null,
});

export function formatRoster(entries: Iterable<RosterEntry>): string {
  const nodes = Array.from(entries, ({ name, zone, leftAtMs }) => [name, { zone, leftAtMs }] as const);
  return `${JSON.stringify({ version: 1, nodes: Object.fromEntries(nodes.sort(([a], [b]) => (a < b ? -1 : 1))) })}\n`;
}

/** Null when the text is not of this form; nothing of a damaged file is believed. */
export function parseRoster(text: string): readonly RosterEntry[] | null {
  const nodes = parseState(text, 1)?.['nodes'];
  if (!isRecord(nodes)) return null;
  const entries: RosterEntry[] = [];
  for (const [name, value] of Object.entries(nodes)) {
    if (!isRecord(value)) return null;
    const { zone, leftAtMs } = value;
    if (typeof zone !== 'string' || (leftAtMs !== null && !Number.isSafeInteger(leftAtMs))) return null;
    entries.push({ name: nodeName(name), zone, leftAtMs: leftAtMs as number | null });
  }
  return entries;
}
