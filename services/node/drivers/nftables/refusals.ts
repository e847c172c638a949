import type { EntryChange } from '@octoplane/model/delta.ts';
import { parseServicePortKey, type ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { Refusal } from '../driver.ts';
import { listsOf, type Placed } from './demand.ts';
import { families, frontendNames } from './frontends.ts';
import { mostEndpoints } from './layout.ts';
import { visibleEntry } from './visible.ts';

/** Which changes cannot be brought about, given who has which frontend now. */
export function refusalsOf(
  changes: readonly EntryChange[],
  owners: ReadonlyMap<string, ServicePortKey>,
  placed: ReadonlyMap<ServicePortKey, Placed>,
): Refusal[] {
  const refusals: Refusal[] = [];
  const claims = new Map<string, ServicePortKey | null>();
  // Whoever changes or goes gives up what it has before anybody claims it: two may swap.
  for (const { key } of changes) {
    const held = placed.get(key);
    if (held) for (const name of frontendNames(held.entry)) claims.set(name, null);
  }
  for (const { key, after } of changes) {
    const entry = after === null ? null : visibleEntry(after);
    if (entry === null) continue;
    const refusal = malformed(entry) ?? tooLarge(entry) ?? taken(entry, claims, owners);
    if (refusal) refusals.push(refusal);
    else for (const name of frontendNames(entry)) claims.set(name, key);
  }
  return refusals;
}

function malformed({ key }: Entry): Refusal | null {
  if (parseServicePortKey(key)) return null;
  return { key, reason: 'invalid', message: `${key} is not of the form NAMESPACE/NAME:PORT/PROTOCOL` };
}

function tooLarge(entry: Entry): Refusal | null {
  for (const family of families) {
    const { cluster, local } = listsOf(entry, family);
    const count = Math.max(cluster.length, local.length);
    if (count <= mostEndpoints) continue;
    const message = `${entry.key} has ${count} ${family} endpoints; the nftables driver takes ${mostEndpoints} at most`;
    return { key: entry.key, reason: 'capacity', message };
  }
  return null;
}

function taken(
  entry: Entry,
  claims: ReadonlyMap<string, ServicePortKey | null>,
  owners: ReadonlyMap<string, ServicePortKey>,
): Refusal | null {
  for (const name of frontendNames(entry)) {
    const claimed = claims.get(name);
    const owner = claimed === undefined ? owners.get(name) : claimed;
    if (owner === undefined || owner === null || owner === entry.key) continue;
    return { key: entry.key, reason: 'invalid', message: `${entry.key} wants ${name}, which ${owner} has` };
  }
  return null;
}
