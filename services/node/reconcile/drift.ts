import type { EntryChange } from '@octoplane/model/delta.ts';
import { entriesEqual, type RuleSet } from '@octoplane/model/rule-set.ts';
import type { Driver } from '../drivers/driver.ts';

/** What brings a kernel that holds `found` to `wanted`, as far as the driver keeps it there. Empty: nothing is to be touched. */
export function driftOf(driver: Pick<Driver, 'visible'>, found: RuleSet, wanted: RuleSet): EntryChange[] {
  const changes: EntryChange[] = [];
  for (const [key, after] of wanted) {
    const before = found.get(key) ?? null;
    if (!entriesEqual(before, driver.visible(after))) changes.push({ key, before, after });
  }
  for (const [key, before] of found) if (!wanted.has(key)) changes.push({ key, before, after: null });
  return changes;
}
