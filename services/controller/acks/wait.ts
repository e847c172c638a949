import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { NodeBook } from './node-book.ts';
import { covers, type NodeRecord } from './node-record.ts';
import type { NodeSelection } from './selectors.ts';

export interface WaitTarget {
  readonly sequence: number;
  /** Entries that must not be held back; undefined: none that the version changed. */
  readonly concernsKey: ((key: ServicePortKey) => boolean) | undefined;
  readonly selection: NodeSelection;
}

export interface WaitProgress {
  readonly nodes: number;
  readonly programmed: number;
  readonly late: readonly NodeRecord[];
  /** Selected by name, and never heard of. */
  readonly unknown: readonly string[];
  readonly isDone: boolean;
}

/**
 * Follows which of the selected nodes have a version. Costs a look per node that changes. With no node at all it is not done: after a start of the controller that would be a lie.
 */
export class Wait {
  readonly #book: NodeBook;
  readonly #target: WaitTarget;
  readonly #selected = new Set<NodeRecord>();
  readonly #late = new Set<NodeRecord>();
  #hadNodes = false;
  readonly #onChange: () => void;
  readonly #stop: () => void;

  constructor(book: NodeBook, target: WaitTarget, onChange: () => void) {
    this.#book = book;
    this.#target = target;
    this.#onChange = onChange;
    for (const record of book.records) this.#look(record);
    this.#stop = book.watch((record) => {
      if (this.#look(record)) this.#onChange();
    });
  }

  stop(): void {
    this.#stop();
  }

  get isDone(): boolean {
    return this.#hadNodes && this.#late.size === 0 && this.#unknown().length === 0;
  }

  progress(): WaitProgress {
    const unknown = this.#unknown();
    return {
      nodes: this.#selected.size + unknown.length,
      programmed: this.#selected.size - this.#late.size,
      late: [...this.#late],
      unknown,
      isDone: this.isDone,
    };
  }

  #unknown(): readonly string[] {
    const { names } = this.#target.selection;
    if (names.length === 0) return names;
    const known = new Set(Array.from(this.#selected, ({ name }): string => name));
    return names.filter((name) => !known.has(name));
  }

  /** True when something changed. */
  #look(record: NodeRecord): boolean {
    const { selection, sequence, concernsKey } = this.#target;
    const isSelected = this.#book.find(record.name) === record && selection.matches(record);
    const isLate = isSelected && !covers(record, sequence, concernsKey);
    const changed = this.#selected.has(record) !== isSelected || this.#late.has(record) !== isLate;
    this.#hadNodes ||= isSelected;
    if (isSelected) this.#selected.add(record);
    else this.#selected.delete(record);
    if (isLate) this.#late.add(record);
    else this.#late.delete(record);
    return changed;
  }
}
