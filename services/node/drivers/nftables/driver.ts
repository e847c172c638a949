import { setImmediate as nextTurn } from 'node:timers/promises';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, entriesEqual, type RuleSet } from '@octoplane/model/rule-set.ts';
import { NetlinkError } from '../../netlink/errors.ts';
import { type Driver, DriverError, type DriverOptions, type Mismatch, type Refusal } from '../driver.ts';
import { primaryAddresses } from './addresses.ts';
import { Books } from './books.ts';
import type { StaleAffinity } from './difference.ts';
import { type Element, elementId, elementText } from './element.ts';
import { Frame } from './frame-keeper.ts';
import { KernelTable } from './kernel.ts';
import { tableName } from './layout.ts';
import { NftError } from './libnftables.ts';
import type { Operation } from './operation.ts';
import { readTable } from './read-table.ts';
import { TransactionError } from './refused-transaction.ts';
import { visibleEntry } from './visible.ts';
import { TableWatch } from './watch.ts';

/** Entries in one transaction while nothing is live yet: small enough to keep the memory of a cold load flat. */
const coldPiece = 100;
/** Entries read back at once. By key, always: a dump of a hash that is still growing misses elements. */
const readBackPiece = 50;
/** Changes whose elements are remembered for the read-back; for more, what each entry needs is worked out again. */
const rememberedChanges = 200;

type ElementOperation = Extract<Operation, { readonly element: Element }>;

/**
 * The nftables driver. Each delta is one transaction, so packets see the rules before it or after it and nothing in
 * between. Only when no hook is in place yet, at a cold start, are entries written in pieces: nothing looks at them.
 */
export class NftablesDriver implements Driver {
  readonly name = 'nftables';
  readonly #kernel = new KernelTable();
  readonly #books = new Books();
  readonly #frame: Frame;
  readonly #watch: TableWatch;
  /** What the last transactions wrote, by entry, for readBack. Emptied by each apply. */
  #written = new Map<ServicePortKey, ElementOperation[]>();
  #forgotten = 0;

  constructor(options: DriverOptions) {
    this.#watch = new TableWatch(this.#kernel);
    this.#frame = new Frame(this.#kernel, this.#watch, () => ({
      ...options,
      nodeAddresses: options.nodeAddresses.length > 0 ? options.nodeAddresses : primaryAddresses(),
    }));
  }

  visible(entry: Entry): Entry | null {
    return visibleEntry(entry);
  }

  check(changes: readonly EntryChange[]): readonly Refusal[] {
    return this.#books.check(changes);
  }

  async apply(changes: readonly EntryChange[]): Promise<void> {
    this.#written = new Map();
    const refusals = this.check(changes);
    if (refusals.length > 0) throw new DriverError(refusals.map(({ message }) => message).join('; '), { refusals });
    this.#translating('prepare the table', () => this.#frame.prepare());
    if (this.#frame.live || changes.length <= coldPiece) return this.#transact(changes);
    await this.#watch.aside(async () => {
      for (let i = 0; i < changes.length; i += coldPiece) {
        this.#transact(changes.slice(i, i + coldPiece), false);
        await nextTurn();
      }
    });
  }

  async readBack(changes: readonly EntryChange[]): Promise<readonly Mismatch[]> {
    const mismatches: Mismatch[] = [];
    for (let i = 0; i < changes.length; i += readBackPiece) {
      const piece = changes.slice(i, i + readBackPiece);
      mismatches.push(...this.#translating('read back', () => this.#readBackSome(piece)));
      if (i + readBackPiece < changes.length) await nextTurn();
    }
    return mismatches;
  }

  async dump(): Promise<RuleSet> {
    this.#written = new Map();
    return this.#translating('read the table', () => {
      const ruleSet = readTable(this.#kernel, this.#books);
      this.#frame.look();
      this.#watch.settled();
      return ruleSet;
    });
  }

  async prune(wanted: RuleSet): Promise<number> {
    const unexplained: EntryChange[] = [];
    for (const [key, { entry }] of this.#books.entries) {
      const want = wanted.get(key);
      if (want === undefined || visibleEntry(want) === null) unexplained.push({ key, before: entry, after: null });
    }
    return this.#translating('prune', () => {
      this.#frame.prepare();
      if (unexplained.length > 0) this.#transact(unexplained);
      const debris: Operation[] = [...this.#books.debris.values()].map((element) => ({
        t: 'delete-element',
        key: null,
        element,
      }));
      this.#kernel.transact(debris);
      this.#books.dropDebris();
      this.#books.share(wanted);
      return unexplained.length + debris.length + this.#frame.keep(this.#books);
    });
  }

  async cleanup(): Promise<void> {
    this.#translating('remove the table', () => this.#kernel.remove());
    this.#books.clear();
  }

  undisturbed(): boolean {
    return this.#watch.undisturbed();
  }

  watch(onDisturbed: (what: string) => void, signal: AbortSignal): void {
    this.#watch.start(onDisturbed, signal);
  }

  gauges(): Readonly<Record<string, number>> {
    return {
      nftables_entries: this.#books.entries.size,
      nftables_endpoints: this.#books.endpointCount,
      nftables_unexplained_elements: this.#books.debris.size,
      nftables_transactions_total: this.#kernel.transactions,
      nftables_affinities_broken_total: this.#forgotten,
    };
  }

  async close(): Promise<void> {
    this.#watch.stop();
    this.#kernel[Symbol.dispose]();
  }

  #transact(changes: readonly EntryChange[], remembering = changes.length <= rememberedChanges): void {
    const plan = this.#books.plan(changes);
    try {
      this.#kernel.transact(plan.operations);
    } catch (error) {
      plan.rollback();
      throw translate('apply', error);
    }
    plan.commit();
    if (remembering) this.#remember(changes, plan.operations);
    this.#translating('break affinity', () => {
      for (const stale of plan.stale) this.#breakAffinity(stale);
    });
  }

  #remember(changes: readonly EntryChange[], operations: readonly Operation[]): void {
    // Elements that entries share are read back with the first entry of the transaction.
    const [first] = changes;
    for (const operation of operations) {
      if (operation.t !== 'add-element' && operation.t !== 'delete-element') continue;
      const key = operation.key ?? first?.key;
      if (key === undefined) continue;
      const written = this.#written.get(key);
      if (written) written.push(operation);
      else this.#written.set(key, [operation]);
    }
  }

  /**
   * After the transaction, not in it: a client may time out at any moment, and a deletion of what is gone fails the whole.
   * Nobody is led to the endpoint any more when apply returns, which is before anything is acknowledged. New connections do
   * not enter it again, since they are only learned to endpoints that are in the tables.
   */
  #breakAffinity({ map, endpoints }: StaleAffinity): void {
    const clients: Element[] = [];
    this.#kernel.dumpAffinity(map, (element) => {
      const { value } = element;
      if (Array.isArray(value) && endpoints.has(value.join(' '))) clients.push(element);
    });
    this.#forgotten += this.#kernel.forget(map, clients);
  }

  #readBackSome(changes: readonly EntryChange[]): Mismatch[] {
    const foreign = changes.filter(({ key, after }) => {
      const wanted = after === null ? null : visibleEntry(after);
      return !entriesEqual(this.#books.entries.get(key)?.entry ?? null, wanted);
    });
    const mismatches: Mismatch[] = foreign.map(({ key }) => ({
      key,
      message: `${key} was never written in this form`,
    }));
    const written = changes.filter((change) => !foreign.includes(change));
    const steps = written.flatMap(({ key }) => {
      const operations = this.#written.get(key) ?? this.#expected(key);
      return operations.map((operation) => ({ key, operation, id: elementId(operation.element) }));
    });
    // What was deleted and added again counts as it was left.
    const last = [...new Map(steps.map((step) => [step.id, step])).values()];
    const differing = this.#kernel.compare(last.map(({ operation }) => operation.element));
    for (const [i, { key, operation }] of last.entries()) {
      const message = discrepancy(operation, differing.has(i) ? (differing.get(i) ?? null) : operation.element);
      if (message !== null) mismatches.push({ key, message });
    }
    return mismatches;
  }

  /** All that an entry needs, for one that this instance has not written. */
  #expected(key: ServicePortKey): ElementOperation[] {
    return this.#books.elementsOf(key).map((element) => ({ t: 'add-element', key, element }));
  }

  #translating<T>(what: string, action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw translate(what, error);
    }
  }
}

function discrepancy(operation: ElementOperation, found: Element | null): string | null {
  const { set } = operation.element;
  if (operation.t === 'delete-element') {
    return found === null ? null : `element ${set} { ${elementText(found)} } is still there`;
  }
  if (found === operation.element) return null;
  const text = `${set} { ${elementText(operation.element)} }`;
  return found === null ? `element ${text} is missing` : `element ${text} reads ${elementText(found)}`;
}

/** Codes that mean "there is no room", from nf_tables_api.c. */
const capacityCodes = new Set(['ENFILE', 'ENOSPC', 'ENOMEM', 'E2BIG', 'ENOBUFS', 'EMSGSIZE']);
/** Codes that mean "the table is not as it was left": whoever changed it, a resync puts it right. */
const disturbedCodes = new Set(['ENOENT', 'EEXIST', 'EBUSY']);

function translate(what: string, error: unknown): unknown {
  if (error instanceof DriverError) return error;
  if (error instanceof TransactionError) {
    if (disturbedCodes.has(error.code)) {
      const message = `nftables, ${what}: table inet ${tableName} is not as it was left (${error.message})`;
      return new DriverError(message, { torn: true, cause: error });
    }
    const refusals = new Map<ServicePortKey, Refusal>();
    for (const { error: cause, operation } of error.refusals) {
      const key = operation && 'key' in operation ? operation.key : null;
      if (key === null) continue;
      const reason = capacityCodes.has(cause.code) ? 'capacity' : 'kernel';
      refusals.set(key, { key, reason, message: `${key}: nf_tables says ${cause.code} ${cause.explanation}`.trim() });
    }
    return new DriverError(`nftables, ${what}: ${error.message}`, { refusals: [...refusals.values()], cause: error });
  }
  if (error instanceof NetlinkError || error instanceof NftError) {
    return new DriverError(`nftables, ${what}: ${error.message}`, { cause: error });
  }
  return error;
}
