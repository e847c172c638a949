import { emptyRuleSet } from '@octoplane/model/rule-set.ts';
import { nftables } from '@octoplane/node/drivers/nftables/module.ts';
import { afterAll, expect, it } from 'vitest';
import { describeDriverContract } from '../../contract/driver-contract.ts';
import { enterOwnNetwork, feed, run } from '../../contract/namespace.ts';
import { contractOptions } from '../../contract/options.ts';

enterOwnNetwork();
// What other programs have beside us: a firewall of its own and Docker's table.
feed(
  `table inet firewall {
     set blocked { type ipv4_addr; elements = { 192.0.2.1 } }
     chain input { type filter hook input priority filter; policy accept; ip saddr @blocked drop; }
   }
   table ip nat {
     chain DOCKER { }
     chain PREROUTING { type nat hook prerouting priority dstnat; policy accept; fib daddr type local jump DOCKER; }
   }`,
  'nft',
  '-f',
  '-',
);

const options = contractOptions();
afterAll(() => options[Symbol.dispose]());

describeDriverContract('nftables', {
  open: () => nftables.open(options),
  neighbour: () => run('nft', 'list', 'table', 'inet', 'firewall') + run('nft', 'list', 'table', 'ip', 'nat'),
  flush: () => run('nft', 'delete', 'table', 'inet', 'octoplane'),
  tells: true,
  renews: true,
  runs: 50,
});

it('the set that compares bytes is put right', async () => {
  const driver = await nftables.open(options);
  try {
    await driver.dump();
    await driver.prune(emptyRuleSet);
    const list = () => run('nft', 'list', 'set', 'inet', 'octoplane', 'same-byte');
    const right = list();
    feed(
      'delete element inet octoplane same-byte { 5 . 5 }; add element inet octoplane same-byte { 1 . 2 }',
      'nft',
      '-f',
      '-',
    );
    expect(await driver.prune(emptyRuleSet)).toBe(2);
    expect(list()).toBe(right);
    expect(await driver.prune(emptyRuleSet)).toBe(0);
  } finally {
    await driver.cleanup();
    await driver.close();
  }
});

it('a chain that another program empties during a cold start is filled again', async () => {
  const balance = () => run('nft', 'list', 'chain', 'inet', 'octoplane', 'balance-4');
  const coldStart = async (meanwhile: () => void): Promise<string> => {
    const driver = await nftables.open(options);
    try {
      await driver.dump();
      await driver.apply([]);
      meanwhile();
      await driver.prune(emptyRuleSet);
      return balance();
    } finally {
      await driver.cleanup();
      await driver.close();
    }
  };
  const undisturbed = await coldStart(() => undefined);
  expect(undisturbed).toContain('numgen random mod 4');
  expect(await coldStart(() => run('nft', 'flush', 'chain', 'inet', 'octoplane', 'balance-4'))).toBe(undisturbed);
});
