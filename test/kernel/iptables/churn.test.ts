import { openHere } from '@octoplane/node/drivers/iptables/module.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { churn } from '../../contract/churn.ts';
import { enterOwnNetwork, feed, run } from '../../contract/namespace.ts';
import { contractOptions } from '../../contract/options.ts';

/** Long random churn: what is in the kernel is then the rule set, and the very text that a node gets that starts with nothing. */
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
    // Together, because a change set starts a program or two for each family, however many changes it has.
    const open = () => openHere(options, flavour);
    const { driver, held } = await churn({ open, services: 200, together: 7, seed: 7 });
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
