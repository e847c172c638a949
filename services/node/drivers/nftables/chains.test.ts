import { describe, expect, it } from 'vitest';
import { balanceChain, balanceChains, copiesOf, ruleText, sizeFor } from './chains.ts';

const service = { frontend: 'service', list: 'first' } as const;
const nodePort = { frontend: 'node-port', list: 'local' } as const;

describe('balancing chains', () => {
  it('go on to the next size, draw, and fall back to what is surely taken', () => {
    const texts = balanceChain(service, 8, 16).rules.map(ruleText);
    expect(texts.slice(0, 3)).toEqual([
      'ip daddr . meta l4proto . th dport . numgen random mod 1 offset 8 @wide4 goto balance-16',
      'ip6 daddr . meta l4proto . th dport . numgen random mod 1 offset 8 @wide6 goto balance-16',
      'dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 8 map @endpoint4',
    ]);
    expect(texts.filter((text) => text.startsWith('dnat ip to')).slice(-2)).toEqual([
      'dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 4 map @endpoint4',
      'dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 1 map @endpoint4',
    ]);
  });

  it('look a node port up without an address, and the local list from its first index', () => {
    const [wide] = balanceChain(nodePort, 4, 8).rules.map(ruleText);
    expect(wide).toBe(
      'meta nfproto ipv4 meta l4proto . th dport . numgen random mod 1 offset 32772 @node-port-wide4 ' +
        'goto node-port-local-balance-8',
    );
    expect(balanceChain(nodePort, 4, 4).rules.map(ruleText)[0]).toBe(
      'meta nfproto ipv4 dnat ip to meta l4proto . th dport . numgen random mod 4 offset 32768 map @node-port-endpoint4',
    );
  });

  it('are made before others go to them', () => {
    expect(balanceChains(service, 16).map(({ name }) => name)).toEqual(['balance-16', 'balance-8', 'balance-4']);
  });

  it('have more than half of their indexes taken, and all of the half size', () => {
    for (let endpoints = 1; endpoints <= 3000; endpoints++) {
      const taken = endpoints * copiesOf(endpoints);
      expect(taken).toBeGreaterThan(sizeFor(endpoints) / 2);
      expect(taken).toBeLessThanOrEqual(sizeFor(endpoints));
    }
  });
});
