import { hash } from 'node:crypto';
import type { Chains, Demand } from './model.ts';

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

  holds(chain: string, lines: readonly string[]): boolean {
    return this.#prints.get(chain) === fingerprint(lines);
  }

  /** What of a demand is not so yet. */
  missing(demand: Demand): TableWork {
    const chains = new Map<string, readonly string[]>();
    for (const [name, lines] of demand.chains) if (!this.holds(name, lines)) chains.set(name, lines);
    return { chains, gone: [...demand.gone].filter((name) => this.#prints.has(name)) };
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

/** Chains to be written as a whole, and chains to be removed. */
export interface TableWork {
  readonly chains: Chains;
  readonly gone: readonly string[];
}

const fingerprint = (lines: readonly string[]): string => hash('sha1', lines.join('\n'), 'base64');
