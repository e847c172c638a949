import { nodeName } from '@octoplane/model/keys.ts';
import type { Clock } from '../clock.ts';
import type { Census } from './census.ts';
import type { Goal } from './goal.ts';
import type { NodeBook } from './node-book.ts';
import type { NodeRecord } from './node-record.ts';
import { type Quorum, requiredOf } from './quorum.ts';
import type { NodeSelection } from './selectors.ts';

export interface WaitRules {
  readonly selection: NodeSelection;
  readonly quorum: Quorum;
  /** A node that has been disconnected for so long does not count, but is named. Null: it counts until it is forgotten. */
  readonly ignoreGoneMs: number | null;
  /** Count Node objects whose daemon has never connected, too (census.ts). */
  readonly everyNode: boolean;
}

export interface WaitProgress {
  /** Nodes that count, and those of them that have it. */
  readonly nodes: number;
  readonly programmed: number;
  /** How many must have it. */
  readonly required: number;
  readonly late: readonly NodeRecord[];
  /** Count, and are not known: selected by name, or Node objects. */
  readonly unknown: readonly Unknown[];
  /** Late, and do not count. */
  readonly ignored: readonly NodeRecord[];
  /** Node objects that do not count. */
  readonly uncounted: readonly string[];
  /** 0: the controller has settled (census.ts). */
  readonly settlingMs: number;
  /** Goal.nobody, while no node counts. */
  readonly nobody: string | null;
  readonly isDone: boolean;
  /** When time alone may change the answer. Null: it cannot. */
  readonly againMs: number | null;
}

export interface Unknown {
  readonly name: string;
  readonly hasNodeObject: boolean;
}

/** Whom to ask, and when. */
export interface WaitSurroundings {
  readonly book: NodeBook;
  readonly census: Census;
  readonly clock: Clock;
}

export interface WaitOptions {
  readonly goal: Goal;
  readonly rules: WaitRules;
  /** The answer may be another. */
  readonly onChange: () => void;
}

/**
 * Follows which of the nodes that count (census.ts) have reached a goal. With no node at all it is not done: that would be a promise about nothing.
 *
 * Costs a look per node that changes, and holds the late nodes only: in a rollout a thousand of them may run at once, on thousands of nodes.
 */
export class Wait {
  readonly #book: NodeBook;
  readonly #census: Census;
  readonly #clock: Clock;
  readonly #goal: Goal;
  readonly #rules: WaitRules;
  readonly #late = new Set<NodeRecord>();
  readonly #onChange: () => void;
  readonly #stop: () => void;

  constructor({ book, census, clock }: WaitSurroundings, { goal, rules, onChange }: WaitOptions) {
    this.#book = book;
    this.#census = census;
    this.#clock = clock;
    this.#goal = goal;
    this.#rules = rules;
    this.#onChange = onChange;
    this.#lookAtAll();
    this.#stop = book.watch((record) => {
      if (this.#look(record)) this.#onChange();
    });
  }

  stop(): void {
    this.#stop();
  }

  /** There are new versions. */
  advance(): void {
    const isOtherwise = this.#goal.advance();
    if (isOtherwise) this.#lookAtAll();
    if (isOtherwise || this.#rules.everyNode) this.#onChange();
  }

  /** False: certainly not. Costs nothing, where `progress` looks at every node. */
  get mayBeDone(): boolean {
    return this.#late.size === 0 || this.#rules.quorum.t !== 'all' || this.#rules.ignoreGoneMs !== null;
  }

  progress(): WaitProgress {
    const settlingMs = this.#isNamed ? 0 : this.#census.settlingMs();
    const missing = this.#missing();
    const doesMissingCount = this.#rules.everyNode || settlingMs > 0;
    const unknown = [
      ...this.#unknownNames().map((name) => ({ name, hasNodeObject: false })),
      ...(doesMissingCount ? missing.map((name) => ({ name, hasNodeObject: true })) : []),
    ];
    const { late, ignored, againMs } = this.#sortLate();
    const programmed = this.#countReached();
    const nodes = programmed + late.length + unknown.length;
    const required = requiredOf(this.#rules.quorum, nodes);
    return {
      nodes,
      programmed,
      required,
      late,
      unknown,
      ignored,
      uncounted: doesMissingCount ? [] : missing,
      settlingMs,
      nobody: nodes === 0 ? this.#goal.nobody : null,
      isDone: nodes > 0 && programmed >= required && settlingMs === 0,
      againMs: settlingMs > 0 ? Math.min(settlingMs, againMs ?? settlingMs) : againMs,
    };
  }

  /** Whoever names the nodes says how many there are. */
  get #isNamed(): boolean {
    return this.#rules.selection.names.length > 0;
  }

  #missing(): readonly string[] {
    if (this.#isNamed) return [];
    const { selection } = this.#rules;
    return this.#census.missing().flatMap((node) => (selection.matchesUnseen(node) ? [node.name] : []));
  }

  #unknownNames(): readonly string[] {
    return this.#rules.selection.names.filter((name) => this.#book.find(nodeName(name)) === null);
  }

  #countReached(): number {
    let reached = 0;
    for (const record of this.#book.records) {
      if (this.#late.has(record) || !this.#rules.selection.matches(record)) continue;
      if (this.#goal.look(record) === 'reached') reached++;
    }
    return reached;
  }

  #sortLate(): Pick<WaitProgress, 'late' | 'ignored' | 'againMs'> {
    const { ignoreGoneMs } = this.#rules;
    if (ignoreGoneMs === null) return { late: [...this.#late], ignored: [], againMs: null };
    const late: NodeRecord[] = [];
    const ignored: NodeRecord[] = [];
    const nowUs = this.#clock.nowUs();
    let againMs: number | null = null;
    for (const record of this.#late) {
      const { connection } = record;
      const leftMs = ignoreGoneMs - (nowUs - connection.sinceUs) / 1000;
      if (connection.t !== 'connected' && leftMs <= 0) {
        ignored.push(record);
        continue;
      }
      late.push(record);
      if (connection.t !== 'connected') againMs = Math.min(Math.ceil(leftMs), againMs ?? Number.POSITIVE_INFINITY);
    }
    return { late, ignored, againMs };
  }

  #lookAtAll(): void {
    for (const record of this.#book.records) this.#look(record);
  }

  /** True when it has become late, or is not any more. */
  #look(record: NodeRecord): boolean {
    const isSelected = this.#book.find(record.name) === record && this.#rules.selection.matches(record);
    const isLate = isSelected && this.#goal.look(record) === 'late';
    if (isLate === this.#late.has(record)) return false;
    if (isLate) this.#late.add(record);
    else this.#late.delete(record);
    return true;
  }
}
