import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { entryDeltaToProto, entryToProto } from '@octoplane/model/codec.ts';
import { diffEntry, type EntryChange } from '@octoplane/model/delta.ts';
import { digestToBytes } from '@octoplane/model/digest.ts';
import type { ServicePortChange } from '@octoplane/model/gen/octoplane/v1/rules.ts';
import { Frame } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import type { HeldRuleSet } from '../reconcile/held.ts';
import { loadJournal } from './load.ts';
import { encodeRecord, magic } from './record.ts';

export interface JournalOptions {
  readonly stateDir: string;
  readonly logger: Logger;
  readonly clock: Clock;
  /** How long a disk that refused is left alone, milliseconds. 10 s: a full disk is not helped by being asked for every frame. */
  readonly retryAfterMs?: number;
  /** Below this many bytes a tail is never worth a compaction. 64 KiB: some hundred frames, replayed in milliseconds. */
  readonly smallTailBytes?: number;
}

type State =
  | { readonly t: 'open'; readonly file: number; size: number; snapshotBytes: number }
  /** Nothing usable is on disk; the next commit begins with a snapshot. */
  | { readonly t: 'none' }
  | { readonly t: 'failing'; readonly since: number };

/** Entries in a record of a snapshot: a part is decoded at a time, and the event loop turns in between. */
const entriesPerRecord = 256;

/**
 * The last good rule set on disk, so that a daemon that restarts without a controller knows what belongs in the kernel.
 *
 *   1. `commit` returns when the frame is written. It is not forced to the platters: the kernel's rules do not outlive the
 *      machine either, and what a crash of the machine tears off is recognised by its checksum.
 *   2. What is on disk is never older than what was acknowledged: a journal that cannot be written is removed, because
 *      an older rule set would be put in the kernel after a restart.
 *   3. A disk that fails costs nothing but the journal: it is logged once, counted, and tried again.
 *
 * The file is frames of stream.proto, each part a record with length and checksum: first a snapshot, then deltas. When the
 * deltas outgrow the snapshot, a new snapshot takes the file's place by rename.
 */
export class Journal {
  readonly #path: string;
  readonly #options: JournalOptions;
  #state: State = { t: 'none' };
  #failures = 0;

  constructor(options: JournalOptions) {
    this.#options = options;
    this.#path = join(options.stateDir, 'rule-set.journal');
  }

  get failures(): number {
    return this.#failures;
  }

  get bytes(): number {
    return this.#state.t === 'open' ? this.#state.size : 0;
  }

  /** To be called once, first. @throws the file system's error when the directory cannot be used at all */
  load(): HeldRuleSet {
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    const { held, size, snapshotBytes } = loadJournal(this.#path, this.#options.logger);
    if (size > 0) this.#state = { t: 'open', file: openSync(this.#path, 'r+'), size, snapshotBytes };
    return held;
  }

  /** `held` after the changes. */
  async commit(held: HeldRuleSet, changes: readonly EntryChange[]): Promise<void> {
    const state = this.#state;
    if (state.t === 'failing' && !this.#dueAgain(state.since)) return;
    try {
      if (state.t === 'open') this.#append(state, held, changes);
      else await this.#writeSnapshot(held);
      if (state.t === 'failing') this.#options.logger.info({ path: this.#path }, 'the journal is written again');
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Replaces a tail that has outgrown its snapshot. Apart from `commit`, because an ack need not wait for it. */
  async compact(held: HeldRuleSet): Promise<void> {
    const state = this.#state;
    if (state.t !== 'open') return;
    const tail = state.size - magic.length - state.snapshotBytes;
    if (tail <= Math.max(state.snapshotBytes, this.#options.smallTailBytes ?? 1 << 16)) return;
    try {
      await this.#writeSnapshot(held);
    } catch (error) {
      this.#fail(error);
    }
  }

  close(): void {
    if (this.#state.t === 'open') closeSync(this.#state.file);
    this.#state = { t: 'none' };
  }

  #append(state: Extract<State, { t: 'open' }>, held: HeldRuleSet, changes: readonly EntryChange[]): void {
    const protos = changes.flatMap(({ key, before, after }) => {
      const delta = diffEntry(before, after);
      return delta ? [entryDeltaToProto(key, delta)] : [];
    });
    const records = Array.from(partsOf(protos, held, false), encodeRecord);
    const start = state.size;
    try {
      for (const record of records) {
        writeAll(state.file, record, state.size);
        state.size += record.length;
      }
    } catch (error) {
      // Half a record would be found torn anyway; without it the file is as it was.
      ftruncateSync(state.file, start);
      throw error;
    }
  }

  async #writeSnapshot(held: HeldRuleSet): Promise<void> {
    const temporary = `${this.#path}.new`;
    const file = openSync(temporary, 'w', 0o600);
    let size = magic.length;
    try {
      writeAll(file, magic, 0);
      for (const part of partsOf(entriesOf(held), held, true)) {
        const record = encodeRecord(part);
        writeAll(file, record, size);
        size += record.length;
        await nextTurn();
      }
      fsyncSync(file);
      renameSync(temporary, this.#path);
    } catch (error) {
      closeSync(file);
      rmSync(temporary, { force: true });
      throw error;
    }
    if (this.#state.t === 'open') closeSync(this.#state.file);
    this.#state = { t: 'open', file, size, snapshotBytes: size - magic.length };
  }

  #fail(error: unknown): void {
    this.#failures++;
    const { logger, clock } = this.#options;
    if (this.#state.t !== 'failing')
      logger.error(
        { err: error, path: this.#path },
        'the journal cannot be written and is removed: free or repair the disk; forwarding goes on, but a restart will need a controller',
      );
    if (this.#state.t === 'open') closeSync(this.#state.file);
    this.#state = { t: 'failing', since: clock.monotonicUs() };
    try {
      rmSync(this.#path, { force: true });
    } catch (removal) {
      logger.error({ err: removal, path: this.#path }, 'nor can it be removed: remove it before the daemon restarts');
    }
  }

  #dueAgain(sinceUs: number): boolean {
    return this.#options.clock.monotonicUs() - sinceUs >= (this.#options.retryAfterMs ?? 10_000) * 1000;
  }
}

function* entriesOf(held: HeldRuleSet): Generator<ServicePortChange> {
  for (const entry of held.ruleSet.values()) yield entryToProto(entry);
}

const blank = Frame.create();

/** One frame in parts; the last carries its name. */
function* partsOf(changes: Iterable<ServicePortChange>, held: HeldRuleSet, snapshot: boolean): Generator<Uint8Array> {
  let part: ServicePortChange[] = [];
  for (const change of changes) {
    if (part.length === entriesPerRecord) {
      yield Frame.encode({ ...blank, changes: part, more: true }).finish();
      part = [];
    }
    part.push(change);
  }
  const last: Frame = {
    ...blank,
    changes: part,
    to: held.version,
    inputs: held.inputs,
    digest: digestToBytes(held.digest),
    repair: snapshot ? { all: true, buckets: [] } : undefined,
  };
  yield Frame.encode(last).finish();
}

function writeAll(file: number, bytes: Uint8Array, position: number): void {
  for (let written = 0; written < bytes.length; )
    written += writeSync(file, bytes, written, bytes.length - written, position + written);
}
