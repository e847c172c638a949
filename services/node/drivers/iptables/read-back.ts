import type { EntryChange } from '@octoplane/model/delta.ts';
import type { Family, ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, entriesEqual } from '@octoplane/model/rule-set.ts';
import type { Mismatch } from '../driver.ts';
import { type Table, tables } from './frame.ts';
import type { Chains, Model } from './model.ts';
import { type Catch, type ServiceRules, serviceRules } from './service.ts';

/** What must hold in the kernel after changes, chain by chain. */
export interface Expectations {
  /** Chains to be read. */
  readonly chains: Record<Table, Set<string>>;
  readonly facts: readonly Fact[];
}

type Fact =
  /** The chain is exactly so. */
  | { readonly t: 'chain'; readonly key: ServicePortKey; readonly chain: string; readonly rules: readonly string[] }
  | {
      readonly t: 'rule';
      readonly key: ServicePortKey;
      readonly table: Table;
      readonly chain: string;
      readonly rule: string;
      readonly present: boolean;
    };

/**
 * Only what the changes touch: a change of endpoints leaves the rules that catch its frontends alone. Of an entry that is
 * named and does not change, everything.
 */
export function expectations(changes: readonly EntryChange[], model: Model): Expectations {
  const chains = { nat: new Set<string>(), filter: new Set<string>() };
  const facts: Fact[] = [];
  for (const { key, before: earlier, after } of changes) {
    const before = entriesEqual(earlier, after) ? null : earlier;
    const was = rulesOf(before, model);
    const is = rulesOf(after, model);
    for (const [chain, rules] of is.chains) {
      if (before !== null && same(was.chains.get(chain), rules)) continue;
      facts.push({ t: 'chain', key, chain, rules });
      chains.nat.add(chain);
    }
    const wasRules = catching(was, model);
    const isRules = catching(is, model);
    for (const [rule, place] of isRules) {
      if (before === null || !wasRules.has(rule)) facts.push({ t: 'rule', key, rule, ...place, present: true });
    }
    for (const [rule, place] of wasRules) {
      if (!isRules.has(rule)) facts.push({ t: 'rule', key, rule, ...place, present: false });
    }
  }
  for (const fact of facts) if (fact.t === 'rule') chains[fact.table].add(fact.chain);
  return { chains, facts };
}

export const nothingExpected = (expected: Expectations): boolean => expected.facts.length === 0;

/** Compares with chains as they were read. */
export function mismatches(family: Family, { facts }: Expectations, found: Record<Table, Chains>): Mismatch[] {
  return facts.flatMap((fact) => {
    const message = fact.t === 'chain' ? chainMismatch(fact, found.nat) : ruleMismatch(fact, found[fact.table]);
    return message === null ? [] : [{ key: fact.key, message: `${family}: ${message}` }];
  });
}

function chainMismatch({ chain, rules }: Extract<Fact, { t: 'chain' }>, found: Chains): string | null {
  const has = found.get(chain);
  if (has === undefined) return `chain ${chain} is missing`;
  const at = Math.max(
    has.findIndex((rule, i) => rule !== rules[i]),
    has.length < rules.length ? has.length : -1,
  );
  if (at < 0) return null;
  return `rule ${at + 1} of chain ${chain} is "${has[at] ?? ''}" and should be "${rules[at] ?? ''}"`;
}

function ruleMismatch({ chain, rule, present }: Extract<Fact, { t: 'rule' }>, found: Chains): string | null {
  if ((found.get(chain)?.includes(rule) ?? false) === present) return null;
  return present ? `chain ${chain} lacks "${rule}"` : `chain ${chain} still has "${rule}"`;
}

const nothing: ServiceRules = { chains: new Map(), catches: [] };

const rulesOf = (entry: Entry | null, model: Model): ServiceRules =>
  entry === null ? nothing : serviceRules(entry, model.settings);

interface Place {
  readonly table: Table;
  readonly chain: string;
}

function catching({ catches }: ServiceRules, model: Model): Map<string, Place> {
  const rules = new Map<string, Place>();
  for (const caught of catches) {
    for (const table of tables) {
      const chain = model.catchingChain(table, caught);
      for (const rule of rulesIn(table, caught)) rules.set(rule, { table, chain });
    }
  }
  return rules;
}

const rulesIn = (table: Table, { translate, refuse }: Catch): readonly string[] =>
  table === 'nat' ? [translate] : refuse === null ? [] : [refuse];

const same = (a: readonly string[] | undefined, b: readonly string[]): boolean =>
  a !== undefined && a.length === b.length && a.every((rule, i) => rule === b[i]);
