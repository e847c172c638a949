import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, emptyRuleSet, type RuleSet } from '@octoplane/model/rule-set.ts';
import type { Driver } from '@octoplane/node/drivers/driver.ts';
import { openHere } from '@octoplane/node/drivers/iptables/module.ts';
import { arbitraryEntry } from '@octoplane/node/testing/arbitrary.ts';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { enterOwnNetwork, feed, run } from '../../contract/namespace.ts';
import { contractOptions } from '../../contract/options.ts';

/**
 * Long random churn: what is in the kernel is then the rule set, and the very text that a node gets that starts with nothing.
 * 500 steps on each flavour, because a step starts a program for each family; OCTOPLANE_CHURN_STEPS asks for more.
 */
const steps = Number(process.env['OCTOPLANE_CHURN_STEPS'] ?? 500);
const services = 200;

const step = fc.nat(services - 1).chain((index) => fc.tuple(arbitraryEntry(index), fc.integer({ min: 0, max: 3 })));

const neighbours = [
  '*nat',
  ':NEIGHBOUR - [0:0]',
  '-A POSTROUTING -s 192.0.2.0/24 -j NEIGHBOUR',
  '-A NEIGHBOUR -j MASQUERADE',
  'COMMIT',
  '*mangle',
  '-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu',
  'COMMIT',
  '',
].join('\n');

const options = contractOptions();

beforeAll(() => enterOwnNetwork());
afterAll(() => options[Symbol.dispose]());

describe.each(['nft', 'legacy'] as const)('churn on iptables (%s)', (flavour) => {
  /** Rules, and chains that somebody made; the kernel's own chains come with the first look at a table. */
  const saved = () =>
    ['iptables', 'ip6tables'].map((command) =>
      run(`${command}-${flavour}-save`)
        .split('\n')
        .map((line) => line.replace(/ \[[0-9]+:[0-9]+\]$/, ''))
        .filter((line) => line.startsWith('-A ') || /^:\S+ -$/.test(line)),
    );

  it('ends as the rule set says, and as if it had been programmed at once', { timeout: 600_000 }, async () => {
    feed(neighbours, `iptables-${flavour}-restore`, '--noflush');
    const before = saved();
    let driver = await openHere(options, flavour);
    await driver.prune(emptyRuleSet);
    const held = new Map<ServicePortKey, Entry>();
    for (const [i, [entry, fate]] of fc.sample(step, { numRuns: steps, seed: 7 }).entries()) {
      const { key } = entry;
      const after = fate === 0 ? null : entry;
      const change = { key, before: held.get(key) ?? null, after };
      await driver.apply([change]);
      if (i % 20 === 0) expect(await driver.readBack([change])).toEqual([]);
      if (after) held.set(key, after);
      else held.delete(key);
      if (i % 250 !== 249) continue;
      await driver.close();
      driver = await openHere(options, flavour);
      expectHeld(driver, await driver.dump(), held);
      expect(await driver.prune(held)).toBe(0);
    }
    const byChurn = saved();
    await driver.cleanup();
    expect(saved()).toEqual(before);

    const fresh = await openHere(options, flavour);
    await fresh.apply(Array.from(held.values(), (after) => ({ key: after.key, before: null, after })));
    await fresh.prune(held);
    expect(saved().map(inOrder)).toEqual(byChurn.map(inOrder));
    await fresh.cleanup();
    await fresh.close();
    await driver.close();
  });
});

/** Chains stand in the order of their making in the legacy flavour; a stable sort keeps the order of rules within each. */
const inOrder = (lines: readonly string[]): readonly string[] => {
  const chainOf = (line: string) => (line.startsWith(':') ? line : line.split(' ').slice(0, 2).join(' '));
  return lines.toSorted((a, b) => (chainOf(a) < chainOf(b) ? -1 : chainOf(a) > chainOf(b) ? 1 : 0));
};

function expectHeld(driver: Driver, found: RuleSet, wanted: RuleSet): void {
  const visible = [...wanted.values()].flatMap((entry) => driver.visible(entry) ?? []);
  const sorted = (entries: Iterable<Entry>) => [...entries].toSorted((a, b) => (a.key < b.key ? -1 : 1));
  expect(sorted(found.values())).toEqual(sorted(visible));
}
