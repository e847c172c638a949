import { applyChanges, type EntryChange } from '@octoplane/model/delta.ts';
import { type Digest, DigestSums } from '@octoplane/model/digest.ts';
import type { InputRevision, Version } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry, RuleSet } from '@octoplane/model/rule-set.ts';
import { noVersion, type WholeFrame } from './frame.ts';

/**
 * The last good rule set with its name. One map, changed in place by whoever owns it: a copy of 10,000 entries for every
 * frame would cost more than the frame.
 */
export class HeldRuleSet {
  readonly #ruleSet: Map<ServicePortKey, Entry>;
  #sums: DigestSums;
  #version: Version;
  #inputs: readonly InputRevision[];

  constructor(
    ruleSet: Map<ServicePortKey, Entry>,
    sums: DigestSums,
    version: Version,
    inputs: readonly InputRevision[],
  ) {
    this.#ruleSet = ruleSet;
    this.#sums = sums;
    this.#version = version;
    this.#inputs = inputs;
  }

  static nothing(): HeldRuleSet {
    return new HeldRuleSet(new Map(), new DigestSums(), noVersion, []);
  }

  /** False until a controller, or the journal, has said what belongs here: an empty rule set is something else. */
  get isKnown(): boolean {
    return this.#version.epoch !== 0;
  }

  get ruleSet(): RuleSet {
    return this.#ruleSet;
  }

  get sums(): DigestSums {
    return this.#sums;
  }

  get digest(): Digest {
    return this.#sums.total;
  }

  get version(): Version {
    return this.#version;
  }

  get inputs(): readonly InputRevision[] {
    return this.#inputs;
  }

  /** The frame is in the kernel: from now on this is what is held. */
  commit(changes: readonly EntryChange[], sums: DigestSums, frame: Pick<WholeFrame, 'to' | 'inputs' | 'repair'>): void {
    applyChanges(this.#ruleSet, changes);
    this.#sums = sums;
    this.#version = frame.to;
    this.#inputs =
      frame.repair === null ? movedInputs(this.#inputs, frame.inputs) : newestInputs(this.#inputs, frame.inputs);
  }

  /** The same rule set under another name: nothing changed but the controller's numbering. */
  rename(version: Version, inputs: readonly InputRevision[]): void {
    this.#version = version;
    this.#inputs = newestInputs(this.#inputs, inputs);
  }
}

/** After a delta, which names only what moved, without the incarnation where that is the same. */
export function movedInputs(held: readonly InputRevision[], moved: readonly InputRevision[]): readonly InputRevision[] {
  const inputs = new Map(held.map((input) => [input.source, input]));
  for (const input of moved) {
    const incarnation = input.incarnation || (inputs.get(input.source)?.incarnation ?? '');
    inputs.set(input.source, { ...input, incarnation });
  }
  return [...inputs.values()];
}

/**
 * After a plan or a repair, which names all inputs: per source the further revision, so that a replica that lags, and says so
 * of an equal rule set, does not make this node forget how far it had come. A source that is no longer named is gone.
 */
export function newestInputs(held: readonly InputRevision[], all: readonly InputRevision[]): readonly InputRevision[] {
  if (all.length === 0) return held;
  return all.map((input) => {
    const before = held.find(({ source }) => source === input.source);
    return before && isBehind(input, before) ? before : input;
  });
}

/** The first source that has been read further by what is held than by `inputs`; null: none. */
export function staleInput(
  held: readonly InputRevision[],
  inputs: readonly InputRevision[],
): { readonly held: InputRevision; readonly offered: InputRevision } | null {
  for (const offered of inputs) {
    const before = held.find(({ source }) => source === offered.source);
    if (before && isBehind(offered, before)) return { held: before, offered };
  }
  return null;
}

/** Revisions of different incarnations are not comparable. */
const isBehind = (offered: InputRevision, held: InputRevision): boolean =>
  (offered.incarnation === '' || offered.incarnation === held.incarnation) && offered.revision < held.revision;
