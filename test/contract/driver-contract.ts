import { changesBetween, type EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, emptyRuleSet, type RuleSet } from '@octoplane/model/rule-set.ts';
import type { Driver } from '@octoplane/node/drivers/driver.ts';
import { driftOf } from '@octoplane/node/reconcile/drift.ts';
import { arbitraryEntry, arbitraryRuleSet } from '@octoplane/node/testing/arbitrary.ts';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';

/** A kernel for one driver, and somebody else who uses it. */
export interface DriverHarness {
  open(): Promise<Driver>;
  /** State of another program's in the same kernel; text that must never change. Null: there is none. */
  readonly neighbour: (() => string) | null;
  /** Another program removes what the driver has put in the kernel, or a good part of it. Null: nobody can. */
  readonly flush: (() => void) | null;
  /** The kernel tells of such things. */
  readonly tells: boolean;
  /** Entries that this driver must refuse in `check`, because it cannot serve them; all others it must take. */
  readonly refuses?: (entry: Entry) => boolean;
  /** The first prune of an instance puts its own programs in the place of the ones before, and counts that. */
  readonly renews?: boolean;
  /** Random rule sets in a row; fewer where a driver starts a program for each. */
  readonly runs: number;
}

/**
 * What driver.ts promises, on any driver. Hitless (3) needs traffic and is the scenarios' business, and so is the meaning of
 * the rules; the cost of a delta (6) is the benchmarks'.
 */
export function describeDriverContract(name: string, harness: DriverHarness): void {
  describe(`${name}: the contract of a driver`, () => {
    let driver: Driver | null = null;

    const refuses = harness.refuses ?? (() => false);
    const served = (ruleSet: RuleSet): RuleSet => new Map([...ruleSet].filter(([, entry]) => !refuses(entry)));
    const [a, b] = [served(sampled(1)), served(sampled(2))];

    /** The kernel as a daemon finds it after an earlier one, or empty. */
    async function open(): Promise<Driver> {
      await driver?.close();
      driver = await harness.open();
      return driver;
    }

    async function fresh(): Promise<Driver> {
      const old = await open();
      await old.dump();
      await old.cleanup();
      const opened = await open();
      await opened.dump();
      await opened.prune(emptyRuleSet);
      return opened;
    }

    afterEach(async () => {
      await driver?.close();
      driver = null;
    });

    it('an empty kernel is an empty rule set', async () => {
      const opened = await fresh();
      expect(await opened.dump()).toEqual(emptyRuleSet);
    });

    it('what is visible of an entry is visible as it is, and at home under its key', async () => {
      const opened = await fresh();
      fc.assert(
        fc.property(fc.nat(5).chain(arbitraryEntry), (entry) => {
          const visible = opened.visible(entry);
          if (visible === null) return;
          expect(visible.key).toBe(entry.key);
          expect(opened.visible(visible)).toEqual(visible);
        }),
      );
    });

    it('changes come about, are read back, and are dumped, in a row and after a restart', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.tuple(arbitraryRuleSet, fc.boolean()), { minLength: 1, maxLength: 5 }),
          async (steps) => {
            let opened = await fresh();
            let held = emptyRuleSet;
            for (const [drawn, restart] of steps) {
              const wanted = served(drawn);
              if (restart) {
                opened = await open();
                expectHeld(opened, await opened.dump(), held);
              }
              const changes = between(held, wanted);
              expect(opened.check(changes)).toEqual([]);
              await opened.apply(changes);
              expect(await opened.readBack(changes)).toEqual([]);
              held = wanted;
            }
            expectHeld(opened, await opened.dump(), held);
            expect(await opened.prune(held)).toBe(0);
          },
        ),
        { numRuns: harness.runs },
      );
    });

    it('applying what is there, and removing what is absent, succeeds and changes nothing', async () => {
      const opened = await fresh();
      await opened.apply(between(emptyRuleSet, a));
      await opened.apply(between(emptyRuleSet, a));
      expectHeld(opened, await opened.dump(), a);
      const absent = [...b.values()].filter(({ key }) => !a.has(key));
      await opened.apply(absent.map((before) => ({ key: before.key, before, after: null })));
      await opened.apply([]);
      expectHeld(opened, await opened.dump(), a);
      expect(await opened.prune(a)).toBe(0);
    });

    it('a read-back names what is not as it should be, and only that', async () => {
      const opened = await fresh();
      await opened.apply(between(emptyRuleSet, a));
      const wanted = between(a, b).filter(({ before, after }) => differs(opened, before, after));
      const rest = unchanged(a).filter(({ key }) => !wanted.some((change) => change.key === key));
      const mismatches = await opened.readBack([...wanted, ...rest]);
      expect(new Set(mismatches.map(({ key }) => key))).toEqual(new Set(wanted.map(({ key }) => key)));
    });

    it('a check names what cannot be served, and nothing else', async () => {
      const opened = await fresh();
      fc.assert(
        fc.property(arbitraryRuleSet, (ruleSet) => {
          const refused = opened.check(between(emptyRuleSet, ruleSet)).map(({ key }) => key);
          expect(new Set(refused)).toEqual(new Set([...ruleSet.values()].filter(refuses).map(({ key }) => key)));
        }),
      );
    });

    it('a check touches nothing', async () => {
      const opened = await fresh();
      await opened.apply(between(emptyRuleSet, a));
      opened.check(between(a, b));
      expectHeld(opened, await opened.dump(), a);
    });

    it('opening and reading leave the kernel as it is; pruning removes what is not wanted', async () => {
      const opened = await fresh();
      await opened.apply(between(emptyRuleSet, a));
      const again = await open();
      expectHeld(again, await again.dump(), a);
      if (harness.renews) await again.prune(a);
      expect(await again.prune(a)).toBe(0);
      const [first] = a.keys();
      const fewer = new Map([...a].filter(([key]) => key !== first));
      await again.apply(between(a, fewer));
      await again.prune(fewer);
      expectHeld(again, await again.dump(), fewer);
    });

    it('cleaned up, nothing of ours is left, and what was not ours is as it was', async () => {
      const neighbour = harness.neighbour?.();
      const opened = await fresh();
      await opened.apply(between(emptyRuleSet, a));
      expect(harness.neighbour?.()).toBe(neighbour);
      await opened.cleanup();
      const again = await open();
      expect(await again.dump()).toEqual(emptyRuleSet);
      expect(harness.neighbour?.()).toBe(neighbour);
    });

    const { flush } = harness;
    it.runIf(flush !== null)('what another program removes is seen, and can be put back', async () => {
      const opened = await fresh();
      await opened.apply(between(emptyRuleSet, a));
      const heard = Promise.withResolvers<string>();
      const stop = new AbortController();
      opened.watch((what) => heard.resolve(what), stop.signal);
      await opened.dump();
      expect(opened.undisturbed?.() ?? true).toBe(true);
      flush?.();
      expect(opened.undisturbed?.() ?? false).toBe(false);
      if (harness.tells) expect(await heard.promise).not.toBe('');
      stop.abort();
      const wanted = unchanged(a).filter(({ after }) => differs(opened, null, after));
      expect((await opened.readBack(wanted)).length).toBeGreaterThan(0);
      const found = await opened.dump();
      const drift = driftOf(opened, found, a);
      expect(drift.length).toBeGreaterThan(0);
      await opened.apply(drift);
      await opened.prune(a);
      expectHeld(opened, await opened.dump(), a);
      expect(await opened.prune(a)).toBe(0);
    });

    it('what it does itself is no disturbance', async (context) => {
      if (!harness.tells) context.skip('the kernel tells nobody of changes to these tables');
      const opened = await fresh();
      const heard: string[] = [];
      const stop = new AbortController();
      opened.watch((what) => heard.push(what), stop.signal);
      await opened.apply(between(emptyRuleSet, a));
      await opened.apply(between(a, b));
      await opened.prune(b);
      // Whatever the kernel has to tell has been told by then: a notification is queued before the transaction returns.
      await new Promise((resolve) => setImmediate(resolve));
      stop.abort();
      expect(heard).toEqual([]);
    });

    it('its figures are numbers', async () => {
      const opened = await fresh();
      for (const [figure, value] of Object.entries(opened.gauges()))
        expect([figure, Number.isFinite(value)]).toEqual([figure, true]);
    });
  });
}

const sampled = (seed: number): RuleSet =>
  fc.sample(
    arbitraryRuleSet.filter((ruleSet) => ruleSet.size > 3),
    { numRuns: 1, seed },
  )[0] ?? emptyRuleSet;

const between = (before: RuleSet, after: RuleSet): EntryChange[] => [...changesBetween(before, after)];

const unchanged = (ruleSet: RuleSet): EntryChange[] =>
  Array.from(ruleSet.values(), (entry) => ({ key: entry.key, before: entry, after: entry }));

const differs = (driver: Driver, before: Entry | null, after: Entry | null): boolean => {
  const pair = new Map<ServicePortKey, Entry>();
  const visible = before && driver.visible(before);
  if (visible) pair.set(visible.key, visible);
  return driftOf(driver, pair, after ? new Map([[after.key, after]]) : emptyRuleSet).length > 0;
};

function expectHeld(driver: Driver, found: RuleSet, wanted: RuleSet): void {
  const visible = new Map<ServicePortKey, Entry>();
  for (const entry of wanted.values()) {
    const part = driver.visible(entry);
    if (part) visible.set(entry.key, part);
  }
  expect(sorted(found)).toEqual(sorted(visible));
}

const sorted = (ruleSet: RuleSet): Entry[] => [...ruleSet.values()].toSorted((x, y) => (x.key < y.key ? -1 : 1));
