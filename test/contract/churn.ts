import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, entriesEqual, type RuleSet } from '@octoplane/model/rule-set.ts';
import type { Driver } from '@octoplane/node/drivers/driver.ts';
import { arbitraryEntry } from '@octoplane/node/testing/arbitrary.ts';
import fc from 'fast-check';
import { expect } from 'vitest';

/** What churn promises of every driver: after so many random steps a dump equals the model. */
export const churnSteps = 2000;

export interface ChurnOptions {
  /** A new instance each time, as after a restart of the daemon. */
  readonly open: () => Promise<Driver>;
  readonly services: number;
  /** Most steps that are applied as one change set. Default 1. */
  readonly together?: number;
  readonly seed: number;
}

/**
 * Services come, change and go, `churnSteps` times, some of them together, with a restart eight times in between; every change
 * is read back. Returns what is held in the end, and the driver that holds it.
 */
export async function churn({ open, services, together = 1, seed }: ChurnOptions) {
  const step = fc.nat(services - 1).chain((index) => fc.tuple(arbitraryEntry(index), fc.integer({ min: 0, max: 3 })));
  const steps = fc.sample(step, { numRuns: churnSteps, seed });
  const sizes = fc.sample(fc.integer({ min: 1, max: together }), { numRuns: churnSteps, seed });
  const held = new Map<ServicePortKey, Entry>();
  let driver = await open();
  await driver.prune(held);
  for (let done = 0, restarts = 1; done < churnSteps; ) {
    const changes = new Map<ServicePortKey, EntryChange>();
    for (const [{ key, ...entry }, fate] of steps.slice(done, done + (sizes[done] ?? 1)))
      changes.set(key, { key, before: held.get(key) ?? null, after: fate === 0 ? null : { key, ...entry } });
    done += sizes[done] ?? 1;
    await driver.apply([...changes.values()]);
    expect(await driver.readBack([...changes.values()])).toEqual([]);
    for (const { key, after } of changes.values())
      if (after) held.set(key, after);
      else held.delete(key);
    if (done < (restarts * churnSteps) / 8) continue;
    restarts++;
    await driver.close();
    driver = await open();
    expectHeld(driver, await driver.dump(), held);
    expect(await driver.prune(held)).toBe(0);
  }
  return { driver, held };
}

/** The law of every driver: a dump is the rule set, entry by entry through `visible`. */
export function expectHeld(driver: Driver, found: RuleSet, wanted: RuleSet): void {
  const differing = [...new Set([...found.keys(), ...wanted.keys()])].filter((key) => {
    const entry = wanted.get(key);
    return !entriesEqual(found.get(key) ?? null, entry ? driver.visible(entry) : null);
  });
  expect(differing).toEqual([]);
}
