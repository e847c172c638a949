import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { changesBetween, type EntryChange } from '@octoplane/model/delta.ts';
import { DigestSums, digestOf } from '@octoplane/model/digest.ts';
import type { RuleSet } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HeldRuleSet } from '../reconcile/held.ts';
import { arbitraryRuleSet } from '../testing/arbitrary.ts';
import { FakeClock } from '../testing/clock.ts';
import { silentLogger } from '../testing/logger.ts';
import { Journal } from './journal.ts';

let stateDir = '';
let path = '';
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'octoplane-journal-'));
  path = join(stateDir, 'rule-set.journal');
});
afterEach(() => rmSync(stateDir, { recursive: true }));

const clock = new FakeClock();

function journal(smallTailBytes?: number): Journal {
  return new Journal({
    stateDir,
    logger: silentLogger,
    clock,
    ...(smallTailBytes === undefined ? {} : { smallTailBytes }),
  });
}

const heldOf = (ruleSet: RuleSet, sequence: number): HeldRuleSet =>
  new HeldRuleSet(new Map(ruleSet), DigestSums.of(ruleSet), { epoch: 7, sequence }, [
    { source: 'file', incarnation: 'a', revision: sequence },
  ]);

const changes = (before: RuleSet, after: RuleSet): EntryChange[] => [...changesBetween(before, after)];

/** Commits them in turn and returns what the file took after each. */
async function write(target: Journal, ruleSets: readonly RuleSet[], compacting = false): Promise<number[]> {
  const sizes: number[] = [];
  let before: RuleSet = new Map();
  for (const [i, ruleSet] of ruleSets.entries()) {
    const held = heldOf(ruleSet, i + 1);
    await target.commit(held, changes(before, ruleSet));
    if (compacting) await target.compact(held);
    sizes.push(target.bytes);
    before = ruleSet;
  }
  return sizes;
}

function reload(): HeldRuleSet {
  const again = journal();
  const held = again.load();
  again.close();
  return held;
}

describe('the journal', () => {
  it('gives back what was committed last, with its name', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(arbitraryRuleSet, { minLength: 1, maxLength: 8 }),
        fc.boolean(),
        async (ruleSets, compacting) => {
          rmSync(path, { force: true });
          const first = journal(compacting ? 100 : undefined);
          first.load();
          await write(first, ruleSets, compacting);
          first.close();
          const held = reload();
          const last = ruleSets.at(-1) ?? new Map();
          expect(new Map(held.ruleSet)).toEqual(last);
          expect(held.digest).toBe(digestOf(last));
          expect(held.version).toEqual({ epoch: 7, sequence: ruleSets.length });
          expect(held.inputs).toEqual([{ source: 'file', incarnation: 'a', revision: ruleSets.length }]);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('cut off anywhere, gives back the last frame that is whole, and is written on from there', async () => {
    const cases = fc.tuple(
      fc.array(arbitraryRuleSet, { minLength: 2, maxLength: 6 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
    );
    await fc.assert(
      fc.asyncProperty(cases, async ([ruleSets, share]) => {
        rmSync(path, { force: true });
        const first = journal(1 << 20);
        first.load();
        const sizes = await write(first, ruleSets);
        first.close();
        const cut = Math.floor(statSync(path).size * share);
        truncateSync(path, cut);
        const whole = sizes.filter((size) => size <= cut).length;
        const second = journal();
        const held = second.load();
        expect(held.version).toEqual(whole === 0 ? { epoch: 0, sequence: 0 } : { epoch: 7, sequence: whole });
        expect(new Map(held.ruleSet)).toEqual(ruleSets[whole - 1] ?? new Map());
        const next = ruleSets[0] ?? new Map();
        await second.commit(heldOf(next, 99), changes(held.ruleSet, next));
        second.close();
        expect(new Map(reload().ruleSet)).toEqual(next);
      }),
      { numRuns: 60 },
    );
  });

  it('that ends in blocks that were never written, is cut there', async () => {
    const [ruleSet = new Map()] = fc.sample(arbitraryRuleSet, { numRuns: 1, seed: 3 });
    const first = journal();
    first.load();
    await write(first, [ruleSet]);
    first.close();
    writeFileSync(path, Buffer.alloc(5000), { flag: 'a' });
    expect(new Map(reload().ruleSet)).toEqual(ruleSet);
  });

  it('that is damaged is set aside and counts as none', async () => {
    const ruleSets = fc.sample(arbitraryRuleSet, { numRuns: 4, seed: 4 });
    const first = journal(1 << 20);
    first.load();
    const [snapshotEnd = 0] = await write(first, ruleSets);
    first.close();
    const bytes = readFileSync(path);
    bytes[snapshotEnd - 3] = (bytes[snapshotEnd - 3] ?? 0) ^ 0xff;
    writeFileSync(path, bytes);
    expect(reload().isKnown).toBe(false);
    expect(existsSync(`${path}.damaged`)).toBe(true);
    expect(existsSync(path)).toBe(false);
  });

  it('that is no journal at all is set aside', () => {
    writeFileSync(path, 'kind: Service\nmetadata: {}\n');
    expect(reload().isKnown).toBe(false);
    expect(readFileSync(`${path}.damaged`, 'utf8')).toContain('Service');
  });

  it('stays near the size of its snapshot, however long the churn', async () => {
    const ruleSets = fc.sample(arbitraryRuleSet, { numRuns: 60, seed: 5 });
    const target = journal(2000);
    target.load();
    const sizes = await write(target, ruleSets, true);
    expect(Math.max(...sizes)).toBeLessThan(20_000);
    target.close();
  });

  it('on a full disk costs nothing but itself, leaves nothing stale, and comes back', async () => {
    const [a = new Map(), b = new Map()] = fc.sample(arbitraryRuleSet, { numRuns: 2, seed: 6 });
    const target = journal();
    target.load();
    symlinkSync('/dev/full', `${path}.new`);
    await target.commit(heldOf(a, 1), changes(new Map(), a));
    expect(target.failures).toBe(1);
    expect(existsSync(path)).toBe(false);
    await target.commit(heldOf(b, 2), changes(a, b));
    expect(target.failures).toBe(1);
    clock.advance(10_000);
    await target.commit(heldOf(a, 3), changes(b, a));
    target.close();
    expect(reload().version).toEqual({ epoch: 7, sequence: 3 });
  });
});
