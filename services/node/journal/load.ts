import { renameSync, truncateSync } from 'node:fs';
import { deltaFromProto } from '@octoplane/model/codec.ts';
import { applyChanges, changesOf, type Delta } from '@octoplane/model/delta.ts';
import { type Digest, DigestSums, digestFromBytes, formatDigest } from '@octoplane/model/digest.ts';
import { Frame } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { Logger } from 'pino';
import { HeldRuleSet } from '../reconcile/held.ts';
import { magic, readRecords } from './record.ts';

export interface Loaded {
  readonly held: HeldRuleSet;
  /** Bytes up to and including the last whole frame; 0: there is no usable file. */
  readonly size: number;
  /** Of these, what the snapshot at its head takes. */
  readonly snapshotBytes: number;
}

const nothing = (): Loaded => ({ held: HeldRuleSet.nothing(), size: 0, snapshotBytes: 0 });

/**
 * Reads the journal. A torn tail is cut off, and what precedes it counts. A damaged file is set aside under a name
 * with `.damaged`, for people, and counts as none: half a rule set would be worse than the one in the kernel.
 */
export function loadJournal(path: string, logger: Logger): Loaded {
  const replay = new Replay();
  let problem: string;
  try {
    const ending = readRecords(path, (payload, end) => replay.read(payload, end));
    if (ending.t === 'torn') {
      logger.warn({ path, offset: ending.offset }, 'the journal ends within a record: the tail is dropped');
      truncateSync(path, replay.size);
    }
    if (ending.t !== 'damaged') return replay.loaded();
    problem = `${ending.what} at offset ${ending.offset}`;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return nothing();
    problem = error instanceof Error ? error.message : String(error);
  }
  const aside = `${path}.damaged`;
  renameSync(path, aside);
  logger.error(
    { path, aside, problem },
    'the journal is damaged: it is set aside, and a controller is needed before anything is programmed',
  );
  return nothing();
}

/** Frames in the order in which they were programmed. */
class Replay {
  readonly #ruleSet = new Map<ServicePortKey, Entry>();
  #parts: Delta[] = [];
  #last: Frame | null = null;
  #snapshotBytes = 0;
  size = 0;

  read(payload: Buffer, end: number): void {
    const frame = Frame.decode(payload);
    this.#parts.push(deltaFromProto(frame.changes));
    if (frame.more) return;
    if (frame.repair) this.#ruleSet.clear();
    for (const delta of this.#parts) applyChanges(this.#ruleSet, changesOf(this.#ruleSet, delta));
    this.#parts = [];
    this.#last = frame;
    this.size = end;
    if (frame.repair) this.#snapshotBytes = end - magic.length;
  }

  /** @throws Error when the digest says that something is missing or altered */
  loaded(): Loaded {
    const last = this.#last;
    if (last?.to === undefined) return nothing();
    const sums = DigestSums.of(this.#ruleSet);
    const expected: Digest | null = digestFromBytes(last.digest);
    if (sums.total !== expected)
      throw new Error(
        `the rule set has digest ${formatDigest(sums.total)}, the journal says ${expected === null ? 'none' : formatDigest(expected)}`,
      );
    const held = new HeldRuleSet(this.#ruleSet, sums, last.to, last.inputs);
    return { held, size: this.size, snapshotBytes: this.#snapshotBytes };
  }
}
