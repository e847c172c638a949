import type { Books } from './books.ts';
import { affinityMapForm } from './chains.ts';
import { elementId } from './element.ts';
import { chainsText, type FrameOptions, frameChainNames, hooks, hooksText, removeHookText, setsText } from './frame.ts';
import { sameBytes, sameBytesText } from './hairpin.ts';
import type { KernelTable } from './kernel.ts';
import { sameByte, setLayouts } from './layout.ts';
import { runNft } from './libnftables.ts';
import { entranceOperations, type Operation } from './operation.ts';
import type { TableWatch } from './watch.ts';
import type { KernelChain } from './wire-table.ts';

/** include/uapi/linux/netfilter.h: NF_INET_*. */
const hookNumbers = { prerouting: 0, forward: 2, output: 3, postrouting: 4 } as const;

/**
 * Keeps the frame: sets, chains and hooks. Whether a chain still has the rules that it was given is told by comparing what the kernel
 * answers with what it answered right after they were written; after a restart nobody knows that answer, so the first `keep` writes
 * all of them again, in one transaction that traffic does not notice. At a cold start the chains that balance are spared that if no
 * transaction was anybody else's since they were made: the kernel walks a map for every chain that begins to use it, a quarter of a
 * second at 100,000 endpoints.
 */
export class Frame {
  readonly #kernel: KernelTable;
  readonly #watch: TableWatch;
  readonly #options: () => FrameOptions;
  #prepared = false;
  #live = false;
  #text = '';
  #rules: ReadonlyMap<string, string> = new Map();
  /** Generation of the kernel less transactions of ours, when the table was made; null: it was there. */
  #foreignAtStart: number | null = null;

  constructor(kernel: KernelTable, watch: TableWatch, options: () => FrameOptions) {
    this.#kernel = kernel;
    this.#watch = watch;
    this.#options = options;
  }

  /** Do packets meet what is written? */
  get live(): boolean {
    return this.#live;
  }

  /** Finds out what is there. */
  look(): void {
    const chains = new Map(this.#kernel.chains().map((chain) => [chain.name, chain]));
    const sets = new Set(this.#kernel.sets().map(({ name }) => name));
    this.#live = hooks.some(({ name }) => chains.has(name));
    this.#prepared =
      [...setLayouts, sameByte].every(({ name }) => sets.has(name)) &&
      frameChainNames.every((name) => chains.has(name));
  }

  /** Makes sets and chains if they are not there, so that elements can be written. */
  prepare(): void {
    if (this.#prepared) return;
    const isNew = !this.#kernel.exists();
    this.#run(setsText() + chainsText(this.#options()));
    this.#kernel.transact(entranceOperations());
    if (isNew) this.#foreignAtStart = this.#foreignTransactions();
    this.#prepared = true;
    this.#live = hooks.some(({ name }) => this.#kernel.chains().some((chain) => chain.name === name));
  }

  /** Puts chains and hooks right, and removes chains and maps of ours that nothing needs. Returns how many were not right. */
  keep(books: Books): number {
    const before = this.#kernel.rules();
    const chains = new Map(this.#kernel.chains().map((chain) => [chain.name, chain]));
    const options = this.#options();
    const text = chainsText(options);
    const first = this.#rules.size === 0;
    const altered = (name: string): boolean => {
      const known = this.#rules.get(name);
      return known !== undefined && known !== (before.get(name) ?? '');
    };
    const frameAltered = text !== this.#text || frameChainNames.some((name) => !chains.has(name) || altered(name));
    const wrongHooks = hooks.filter((hook) => !hookIsRight(hook, chains.get(hook.name)) || altered(hook.name));
    const isUnknown = first && this.#foreignAtStart !== this.#foreignTransactions();
    const choices = books.chains().filter(({ name }) => isUnknown || altered(name));

    if (first || frameAltered) this.#run(text);
    if (choices.length > 0) {
      this.#kernel.transact(choices.map((chain): Operation => ({ t: 'set-chain', chain })));
    }
    for (const { name } of wrongHooks) {
      const present = chains.get(name);
      const hook = hooks.find((wanted) => wanted.name === name);
      if (present && hook && !hookIsRight(hook, present)) this.#run(removeHookText(name));
    }
    if (first || wrongHooks.length > 0) this.#run(hooksText());
    const wrongBytes = this.#wrongBytes();
    if (wrongBytes > 0) this.#run(sameBytesText());
    const orphans = this.#removeOrphans(books, [...chains.keys()]);
    this.#text = text;
    this.#live = true;

    const after = this.#kernel.rules();
    this.#rules = after;
    const names = [...frameChainNames, ...hooks.map(({ name }) => name), ...choices.map(({ name }) => name)];
    const missing = hooks.filter(({ name }) => !chains.has(name)).length;
    const rewritten = names.filter((name) => chains.has(name) && (before.get(name) ?? '') !== (after.get(name) ?? ''));
    const moved = wrongHooks.filter(({ name }) => chains.has(name) && !rewritten.includes(name)).length;
    return rewritten.length + missing + moved + orphans + wrongBytes;
  }

  /** Elements of `same-byte` that are missing or do not belong there. */
  #wrongBytes(): number {
    const wanted = new Set(sameBytes.map(elementId));
    let strange = 0;
    this.#kernel.dump(
      sameByte.name,
      (element) => {
        if (element === null || !wanted.delete(elementId(element))) strange++;
      },
      () => {
        strange = 0;
        for (const element of sameBytes) wanted.add(elementId(element));
      },
    );
    return strange + wanted.size;
  }

  /** Grows with every transaction in this network namespace that `#kernel` has not made. */
  #foreignTransactions(): number {
    return this.#kernel.generation() - this.#kernel.transactions;
  }

  #removeOrphans(books: Books, chains: readonly string[]): number {
    const needed = [frameChainNames, hooks.map(({ name }) => name), books.chains().map(({ name }) => name)];
    const ours = new Set(needed.flat());
    const orphans = chains.filter((name) => !ours.has(name));
    const maps = books.affinityMaps();
    const strays = this.#kernel
      .sets()
      .map(({ name }) => name)
      .filter((name) => affinityMapForm.test(name) && !maps.has(name));
    this.#kernel.transact([
      ...orphans.map((name): Operation => ({ t: 'delete-chain', name })),
      ...strays.map((name): Operation => ({ t: 'delete-map', name })),
    ]);
    return orphans.length + strays.length;
  }

  #run(text: string): void {
    this.#watch.own(() => runNft(text));
  }
}

function hookIsRight(wanted: (typeof hooks)[number], found: KernelChain | undefined): boolean {
  return (
    found?.hook != null &&
    found.hook.type === wanted.type &&
    found.hook.number === hookNumbers[wanted.hook] &&
    found.hook.priority === wanted.priorityNumber &&
    !found.hook.drops
  );
}
