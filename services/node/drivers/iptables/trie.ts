/**
 * A tree of chains over the digits of a key, so that a first packet passes tens of rules however many keys there are.
 *
 * A key is a string of hex digits (an address, or a protocol and a port) and holds a few rules. A branch with at most
 * `leafRules` rules is one chain that holds them all; a larger one forks where its keys first differ, into one jump for each
 * next digit. The shape follows from the keys alone, not from the order in which they came, so what should be in the
 * kernel can be computed afresh at any time and compared.
 */
export interface TrieSpace {
  /** The chain of the branch of all keys that begin with these digits; '' is the root. */
  chainOf(digits: string): string;
  /** What a key that begins with these digits matches, as iptables prints it; never asked for ''. */
  matchOf(digits: string): string;
}

/** Chains to be as given, some of them perhaps unchanged, and chains that are no more. */
export interface TrieChanges {
  readonly chains: ReadonlyMap<string, readonly string[]>;
  readonly gone: readonly string[];
}

/** A packet that gets here passes half of them; with fewer, chains would cost more to load than rules cost to pass. */
const leafRules = 48;

interface Branch {
  readonly digits: string;
  /** Rules under it. */
  rules: number;
  /** Of a key that ends here. */
  own: readonly string[];
  readonly children: Map<string, Branch>;
  /** On the path of a key that is being changed. */
  touched: boolean;
}

export class RuleTrie {
  readonly #space: TrieSpace;
  readonly #root: Branch = branch('');

  constructor(space: TrieSpace) {
    this.#space = space;
  }

  /** Gives keys their rules, in order (none removes a key), and says what that does to the chains. */
  update(changes: ReadonlyMap<string, readonly string[]>): TrieChanges {
    this.#touch(changes.keys(), true);
    const before = this.#chains((chain) => chain.touched);
    for (const [key, rules] of changes) this.#set(key, rules);
    this.#touch(changes.keys(), true);
    // A branch that gets a chain of its own only now has chains below it that nothing else leads to.
    const chains = this.#chains((chain) => chain.touched || !before.has(this.#space.chainOf(chain.digits)));
    this.#touch(changes.keys(), false);
    return { chains, gone: [...before.keys()].filter((name) => !chains.has(name)) };
  }

  /** Every chain of the tree; there is always a root. */
  all(): ReadonlyMap<string, readonly string[]> {
    return this.#chains(() => true);
  }

  /** The chain in which a key's rules stand, or would. */
  chainFor(key: string): string {
    let chain = this.#root;
    while (chain.rules > leafRules) {
      const fork = forkOf(chain);
      const next = key.startsWith(fork.digits) ? fork.children.get(key[fork.digits.length] ?? '') : undefined;
      if (next === undefined || next.rules === 1) break;
      chain = next;
    }
    return this.#space.chainOf(chain.digits);
  }

  #set(key: string, rules: readonly string[]): void {
    const path = [this.#root];
    let at = this.#root;
    for (const digit of key) {
      let next = at.children.get(digit);
      if (next === undefined) {
        if (rules.length === 0) return;
        next = branch(at.digits + digit);
        at.children.set(digit, next);
      }
      path.push(next);
      at = next;
    }
    const grown = rules.length - at.own.length;
    at.own = rules;
    let parent: Branch | null = null;
    for (const passed of path) {
      passed.rules += grown;
      if (passed.rules === 0) parent?.children.delete(passed.digits.slice(-1));
      parent = passed;
    }
  }

  #touch(keys: Iterable<string>, touched: boolean): void {
    for (const key of keys) {
      let at: Branch | undefined = this.#root;
      at.touched = touched;
      for (const digit of key) {
        at = at.children.get(digit);
        if (at === undefined) break;
        at.touched = touched;
      }
    }
  }

  /**
   * Chains from the root down, as far as they are entered. What touched keys can have changed, made or unmade are the chains
   * on their paths and those next to these, which are there or not as their neighbours are many or few.
   */
  #chains(enters: (chain: Branch) => boolean): Map<string, readonly string[]> {
    const chains = new Map<string, readonly string[]>();
    const visit = (chain: Branch): void => {
      chains.set(this.#space.chainOf(chain.digits), this.#render(chain));
      if (chain.rules <= leafRules || !enters(chain)) return;
      for (const child of forkOf(chain).children.values()) if (child.rules > 1) visit(child);
    };
    visit(this.#root);
    return chains;
  }

  #render(chain: Branch): readonly string[] {
    const fork = forkOf(chain);
    if (chain.rules <= leafRules || fork.children.size === 0) return rulesUnder(chain);
    const lines: string[] = [];
    for (const [, child] of [...fork.children].sort(byDigit)) {
      if (child.rules === 1) lines.push(...rulesUnder(child));
      else lines.push(`${this.#space.matchOf(child.digits)} -j ${this.#space.chainOf(child.digits)}`);
    }
    return lines;
  }
}

const branch = (digits: string): Branch => ({ digits, rules: 0, own: [], children: new Map(), touched: false });

/** The first branch at which keys differ, or the one key's own. */
function forkOf(from: Branch): Branch {
  let at = from;
  while (at.children.size === 1 && at.own.length === 0) for (const only of at.children.values()) at = only;
  return at;
}

function rulesUnder(from: Branch): string[] {
  const lines = [...from.own];
  for (const [, child] of [...from.children].sort(byDigit)) lines.push(...rulesUnder(child));
  return lines;
}

const byDigit = ([a]: [string, unknown], [b]: [string, unknown]): number => (a < b ? -1 : 1);
