import type { EntryChange } from '@octoplane/model/delta.ts';
import type { Family, ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry, RuleSet } from '@octoplane/model/rule-set.ts';
import { type Driver, DriverError, type DriverOptions, type Mismatch, type Refusal } from '../driver.ts';
import { decode } from './decode.ts';
import { FamilyState, type Site, type Work, workSize } from './family.ts';
import { type Table, tables } from './frame.ts';
import { parseNote } from './frontends.ts';
import type { KernelEvents } from './kernel-events.ts';
import { serviceChain } from './names.ts';
import { type Expectations, expectations, mismatches, nothingExpected } from './read-back.ts';
import { listText } from './restore.ts';
import { parseSaved } from './saved.ts';
import type { Settings } from './settings.ts';
import { IptablesError, type Programs, type Runner, restore, save } from './tools.ts';
import { visibleEntry } from './visible.ts';

export interface IptablesDriverOptions {
  readonly driver: DriverOptions;
  readonly runner: Runner;
  readonly programs: Programs;
  readonly families: readonly Family[];
  /** The other flavours that hold chains of ours, from an earlier choice; removed once ours are in place here. */
  readonly leftovers: readonly Programs[];
  /** Read again at every prune, because a node's addresses change. */
  readonly settings: (family: Family) => Settings;
  /** Tells of changes by others; null with the legacy flavour, of which the kernel tells nothing. */
  readonly events: KernelEvents | null;
}

/** Up to this many chains are listed one by one; beyond, the whole table is read. */
const listedChains = 64;

/**
 * Programs iptables through iptables-restore, a process for each family that a change touches. A table of a family is
 * committed as a whole; between tables and families there is no transaction, so a failure may leave a part behind, and says so.
 */
export class IptablesDriver implements Driver {
  readonly name = 'iptables';
  /** The generation of nf_tables is the one that our own last transaction, or a dump, left. Absent in the legacy flavour. */
  readonly undisturbed?: () => boolean;
  readonly #options: IptablesDriverOptions;
  readonly #families: readonly FamilyState[];
  readonly #site: Site;
  readonly #leftovers: Programs[];
  /** The books are those of the kernel: false before the first dump, and after a failure. */
  #inStep = false;
  /** The generation of nf_tables of which we know that our chains are as the books say. */
  #vouchedFor: number | null = null;
  #lockWaits = 0;
  #restores = 0;
  #failures = 0;

  constructor(options: IptablesDriverOptions) {
    this.#options = options;
    this.#leftovers = [...options.leftovers];
    const { events } = options;
    if (events) this.undisturbed = () => this.#vouchedFor !== null && events.generation() === this.#vouchedFor;
    this.#families = options.families.map((family) => new FamilyState(options.settings(family)));
    this.#site = {
      runner: options.runner,
      programs: options.programs,
      onLockWait: (command, turns) => this.#onLockWait(command, turns),
    };
  }

  visible(entry: Entry): Entry | null {
    return visibleEntry(entry, this.#options.families);
  }

  check(changes: readonly EntryChange[]): readonly Refusal[] {
    return changes.flatMap(({ key, after }): Refusal[] => {
      if (after === null || key.length <= longestKey) return [];
      const message = `its name has ${key.length} characters; a comment of iptables has room for ${longestKey}`;
      return [{ key, reason: 'unsupported', message }];
    });
  }

  async apply(changes: readonly EntryChange[]): Promise<void> {
    await this.#getInStep();
    const visible = this.#visibleChanges(changes);
    await this.#perform(
      this.#families.map((family) => family.plan(visible)),
      changes,
    );
  }

  async readBack(changes: readonly EntryChange[]): Promise<readonly Mismatch[]> {
    const seen = changes.map(({ key, before, after }) => ({
      key,
      before: before && this.visible(before),
      after: after && this.visible(after),
    }));
    const found = await Promise.all(this.#families.map((family) => this.#readBackFamily(family, seen)));
    return found.flat();
  }

  async dump(): Promise<RuleSet> {
    const before = this.#options.events?.generation() ?? null;
    const chains = await Promise.all(this.#families.map((family) => family.read(this.#site)));
    this.#vouchedFor = before === this.#options.events?.generation() ? before : null;
    const entries = decode(chains);
    const held = Array.from(entries, ([key, entry]) => ({ key, entry }));
    // The trees are rebuilt from what is there; where they are not as they should be, prune finds it.
    for (const family of this.#families) family.remember(this.#options.settings(family.family), held);
    this.#inStep = true;
    return entries;
  }

  async prune(wanted: RuleSet): Promise<number> {
    await this.#getInStep();
    const entries = Array.from(wanted, ([key, entry]) => ({ key, entry: this.visible(entry) }));
    const works = this.#families.map((family) => family.planAll(this.#options.settings(family.family), entries));
    await this.#perform(works, []);
    return works.reduce((sum, work) => sum + workSize(work), await this.#removeLeftovers());
  }

  async cleanup(): Promise<void> {
    await Promise.all(this.#families.map((family) => family.read(this.#site)));
    await this.#perform(
      this.#families.map((family) => family.planNothing()),
      [],
    );
    await this.#removeLeftovers();
    this.#inStep = false;
  }

  watch(onDisturbed: (what: string) => void, signal: AbortSignal): void {
    this.#options.events?.watch(onDisturbed, signal);
  }

  gauges(): Readonly<Record<string, number>> {
    const sum = (count: (family: FamilyState) => number) =>
      this.#families.reduce((total, family) => total + count(family), 0);
    return {
      iptables_legacy: this.#options.programs.flavour === 'legacy' ? 1 : 0,
      iptables_chains_nat: sum(({ books }) => books.nat.chains),
      iptables_chains_filter: sum(({ books }) => books.filter.chains),
      iptables_foreign_rules: sum(({ foreignRules }) => foreignRules),
      iptables_restores: this.#restores,
      iptables_restore_failures: this.#failures,
      iptables_lock_waits: this.#lockWaits,
    };
  }

  async close(): Promise<void> {
    this.#options.events?.[Symbol.dispose]();
  }

  async #removeLeftovers(): Promise<number> {
    let removed = 0;
    for (const programs of this.#leftovers.splice(0)) {
      const site = { ...this.#site, programs };
      for (const { family } of this.#families) {
        const state = new FamilyState(this.#options.settings(family));
        await state.read(site);
        const work = state.planNothing();
        await state.perform(work, site);
        removed += workSize(work);
      }
      this.#options.driver.logger.info({ flavour: programs.flavour, removed }, 'rules of the other flavour removed');
    }
    return removed;
  }

  async #getInStep(): Promise<void> {
    if (!this.#inStep) await this.dump();
  }

  #visibleChanges(changes: readonly EntryChange[]) {
    return changes.map(({ key, after }) => ({ key, entry: after && this.visible(after) }));
  }

  /** @throws DriverError */
  async #perform(works: readonly Work[], changes: readonly EntryChange[]): Promise<void> {
    const started = works.filter(({ text }) => text !== '');
    this.#restores += started.length;
    const results = await this.#performAll(works, started);
    const failed = results.flatMap((result, i) => {
      const work = works[i];
      return result.status === 'rejected' && work ? [{ work, reason: result.reason as unknown }] : [];
    });
    const [first] = failed;
    if (first === undefined) return;
    this.#failures += failed.length;
    this.#inStep = false;
    const torn = failed.length < started.length || failed.some(({ work, reason }) => mayBeTorn(work, reason));
    throw new DriverError(first.reason instanceof Error ? first.reason.message : String(first.reason), {
      refusals: failed.flatMap(({ work, reason }) => refusalsOf(work, reason, changes)),
      torn,
      cause: first.reason,
    });
  }

  /** Afterwards the kernel is still vouched for if there was nothing but our own transactions: one for each table. */
  async #performAll(works: readonly Work[], started: readonly Work[]): Promise<PromiseSettledResult<void>[]> {
    const { events } = this.#options;
    const vouched = this.undisturbed?.() ? this.#vouchedFor : null;
    const results: PromiseSettledResult<void>[] = [];
    const act = async () => {
      results.push(
        ...(await Promise.allSettled(
          works.map((work, i) => this.#families[i]?.perform(work, this.#site) ?? Promise.resolve()),
        )),
      );
    };
    const large = works.some(({ text }) => text.length > announcedBytes);
    await (large && events ? events.aside(act) : act());
    const transactions = started.reduce((sum, work) => sum + Object.keys(work.tables).length, 0);
    const now = vouched === null ? null : (events?.generation() ?? null);
    this.#vouchedFor = now !== null && vouched !== null && now === vouched + transactions ? now : null;
    return results;
  }

  async #readBackFamily(family: FamilyState, changes: readonly EntryChange[]): Promise<readonly Mismatch[]> {
    const expected = expectations(changes, family.model);
    if (nothingExpected(expected)) return [];
    const [nat, filter] = await Promise.all(tables.map((table) => this.#readChains(family.family, table, expected)));
    return mismatches(family.family, expected, {
      nat: nat ?? new Map(),
      filter: filter ?? new Map(),
    });
  }

  async #readChains(family: Family, table: Table, { chains }: Expectations): Promise<Map<string, string[]>> {
    const wanted = chains[table];
    if (wanted.size === 0) return new Map();
    const { runner, programs, onLockWait } = this.#site;
    if (wanted.size <= listedChains) {
      try {
        return parseSaved(await restore(runner, programs.restore[family], listText(table, wanted), onLockWait)).chains;
      } catch (error) {
        // A chain that is not there ends the listing; which one it is, the whole table tells.
        if (!(error instanceof IptablesError)) throw error;
      }
    }
    return parseSaved(await save(runner, programs.save[family], table)).chains;
  }

  #onLockWait(command: string, turns: number): void {
    this.#lockWaits++;
    const log = this.#options.driver.logger;
    if (turns === 1) log.warn({ command }, 'another program holds the xtables lock; waiting for it');
  }
}

/** Announcements of a work of this size still fit the socket that hears them. */
const announcedBytes = 256 * 1024;

/** A comment is 255 bytes with its end; the rest of a note takes up to 70. */
const longestKey = 180;

/** Tables are committed one after the other: a refusal within the first leaves everything as it was. */
function mayBeTorn(work: Work, reason: unknown): boolean {
  const count = Object.keys(work.tables).length;
  if (count < 2 || !(reason instanceof IptablesError) || reason.line === null) return count > 1;
  const first = work.text.indexOf('COMMIT\n');
  return reason.line > work.text.slice(0, first).split('\n').length;
}

/** The service port that the line at fault belongs to, where it names one. */
function refusalsOf(work: Work, reason: unknown, changes: readonly EntryChange[]): Refusal[] {
  if (!(reason instanceof IptablesError) || reason.line === null) return [];
  const line = work.text.split('\n', reason.line)[reason.line - 1] ?? '';
  const noted = parseNote(/--comment "([^"]*)"/.exec(line)?.[1] ?? '')?.key;
  const owner = changes.find(({ key }) => key === noted || ownChains(key).some((name) => line.includes(name)));
  return owner ? [{ key: owner.key, reason: 'kernel', message: `"${line}": ${reason.message}` }] : [];
}

const ownChains = (key: ServicePortKey): readonly string[] =>
  (['SVC', 'LOC', 'EXT', 'RNG'] as const).map((kind) => serviceChain(kind, key));
