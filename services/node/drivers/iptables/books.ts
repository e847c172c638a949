import { hash } from 'node:crypto';
import type { Chains } from './model.ts';

/**
 * What chains of ours one table of one family has in the kernel, as of the last dump and the changes since: a fingerprint
 * for each, because 100,000 rules as text are too much to keep.
 */
export class Books {
  readonly #prints = new Map<string, string>();

  get chains(): number {
    return this.#prints.size;
  }

  names(): Iterable<string> {
    return this.#prints.keys();
  }

  has(chain: string): boolean {
    return this.#prints.has(chain);
  }

  holds(chain: string, lines: readonly string[]): boolean {
    return this.#prints.get(chain) === fingerprint(lines);
  }

  /** The work was done. */
  enter({ chains, gone }: TableWork): void {
    for (const [name, lines] of chains) this.#prints.set(name, fingerprint(lines));
    for (const name of gone) this.#prints.delete(name);
  }

  /** What a dump found. */
  replace(chains: Chains): void {
    this.#prints.clear();
    for (const [name, lines] of chains) this.#prints.set(name, fingerprint(lines));
  }
}

/**
 * Collects what chains are to be like, and keeps what is not so yet. Text of chains that are as they should be is dropped at
 * once: a full check of 100,000 rules costs time and no memory.
 */
export class Demand {
  readonly #books: Books;
  readonly #wanted = new Set<string>();
  readonly #unwanted = new Set<string>();
  readonly #missing = new Map<string, readonly string[]>();

  constructor(books: Books) {
    this.#books = books;
  }

  want(name: string, lines: readonly string[]): void {
    this.#wanted.add(name);
    if (!this.#books.holds(name, lines)) this.#missing.set(name, lines);
  }

  /** To be removed if it is there. */
  drop(name: string): void {
    if (this.#books.has(name)) this.#unwanted.add(name);
  }

  /** To be removed: whatever is there and not wanted. */
  dropOthers(): void {
    for (const name of this.#books.names()) this.#unwanted.add(name);
  }

  get work(): TableWork {
    const gone = [...this.#unwanted].filter((name) => !this.#wanted.has(name));
    return { chains: this.#missing, gone };
  }
}

/** Chains to be written as a whole, and chains to be removed. */
export interface TableWork {
  readonly chains: Chains;
  readonly gone: readonly string[];
}

const fingerprint = (lines: readonly string[]): string => hash('sha1', lines.join('\n'), 'base64');
