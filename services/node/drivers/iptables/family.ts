import type { Family } from '@octoplane/model/keys.ts';
import { Books, Demand, type TableWork } from './books.ts';
import type { FamilyChains } from './decode.ts';
import { type Hook, hooks, type Table, tables } from './frame.ts';
import { Model, type ModelChange } from './model.ts';
import { type HookWork, isIdle, noHookWork, tableText } from './restore.ts';
import { parseSaved } from './saved.ts';
import type { Settings } from './settings.ts';
import { type Programs, type Runner, restore, save } from './tools.ts';

/** Where the work of one change goes. */
export interface Site {
  readonly runner: Runner;
  readonly programs: Programs;
  readonly onLockWait: (command: string, turns: number) => void;
}

/** Text for one iptables-restore, and what the books say once it has run. */
export interface Work {
  readonly family: Family;
  readonly text: string;
  readonly tables: Partial<Record<Table, { readonly work: TableWork; readonly hooks: HookWork }>>;
}

/** One family: what its chains should be (the model) and what they are (the books). */
export class FamilyState {
  readonly family: Family;
  model: Model;
  readonly books: Record<Table, Books> = { nat: new Books(), filter: new Books() };
  #hooks: Record<Table, readonly Hook[]> = { nat: [], filter: [] };
  foreignRules = 0;

  constructor(settings: Settings) {
    this.family = settings.family;
    this.model = new Model(settings);
  }

  /** Reads both tables, and sets the books by them. */
  async read({ runner, programs }: Site): Promise<FamilyChains> {
    const command = programs.save[this.family];
    const [nat, filter] = await Promise.all([save(runner, command, 'nat'), save(runner, command, 'filter')]);
    const saved = { nat: parseSaved(nat), filter: parseSaved(filter) };
    this.foreignRules = 0;
    for (const table of tables) {
      this.books[table].replace(saved[table].chains);
      this.foreignRules += saved[table].foreignRules;
    }
    this.#hooks = { nat: saved.nat.hooks, filter: saved.filter.hooks };
    return { settings: this.model.settings, tables: { nat: saved.nat.chains, filter: saved.filter.chains } };
  }

  /** Sets the model by what the kernel was found to hold. */
  remember(settings: Settings, held: Iterable<ModelChange>): void {
    this.model = new Model(settings);
    this.model.change(held, this.#demand());
  }

  /** What some changes to the rule set ask of the kernel. The model is changed at once, the books when the work is done. */
  plan(changes: Iterable<ModelChange>): Work {
    const demand = this.#demand();
    this.model.change(changes, demand);
    return this.#work(
      (table) => demand[table].work,
      () => noHookWork,
    );
  }

  /** The same for the whole rule set, with the hooks, and without what nothing explains. */
  planAll(settings: Settings, wanted: Iterable<ModelChange>): Work {
    const demand = this.#demand();
    this.model = new Model(settings);
    this.model.change(wanted, demand);
    for (const table of tables) demand[table].dropOthers();
    return this.#work(
      (table) => demand[table].work,
      (table) => this.#hookWork(table, hooks[table]),
    );
  }

  /** All that is ours, away. */
  planNothing(): Work {
    return this.#work(
      (table) => ({ chains: new Map(), gone: [...this.books[table].names()] }),
      (table) => ({ removed: this.#hooks[table], inserted: [] }),
    );
  }

  /** @throws IptablesError */
  async perform(work: Work, { runner, programs, onLockWait }: Site): Promise<void> {
    if (work.text === '') return;
    await restore(runner, programs.restore[this.family], work.text, onLockWait);
    this.enter(work);
  }

  /** The work was done: the books say so. */
  enter(work: Work): void {
    for (const table of tables) {
      const done = work.tables[table];
      if (done === undefined) continue;
      this.books[table].enter(done.work);
      const left = this.#hooks[table].filter((hook) => !done.hooks.removed.includes(hook));
      this.#hooks[table] = [...done.hooks.inserted, ...left];
    }
  }

  #demand(): Record<Table, Demand> {
    return { nat: new Demand(this.books.nat), filter: new Demand(this.books.filter) };
  }

  #work(workOn: (table: Table) => TableWork, hooksOn: (table: Table) => HookWork): Work {
    const parts: Work['tables'] = {};
    let text = '';
    for (const table of tables) {
      const part = { work: workOn(table), hooks: hooksOn(table) };
      if (isIdle(part.work, part.hooks)) continue;
      parts[table] = part;
      text += tableText(table, part.work, part.hooks);
    }
    return { family: this.family, text, tables: parts };
  }

  /**
   * Hooks that are missing are put first, once each; what else leads into our chains goes. Their place among others' rules
   * is not contested: two programs that both insist on being first would fight for ever.
   */
  #hookWork(table: Table, wanted: readonly Hook[]): HookWork {
    const missing = [...wanted];
    const removed: Hook[] = [];
    for (const hook of this.#hooks[table]) {
      const at = missing.findIndex(({ chain, rule }) => chain === hook.chain && rule === hook.rule);
      if (at < 0) removed.push(hook);
      else missing.splice(at, 1);
    }
    return { removed, inserted: missing };
  }
}

/** How many things a piece of work puts right. */
export function workSize(work: Work): number {
  let size = 0;
  for (const part of Object.values(work.tables)) {
    size += part.work.chains.size + part.work.gone.length + part.hooks.inserted.length + part.hooks.removed.length;
  }
  return size;
}
