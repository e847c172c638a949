import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RuleTrie, type TrieSpace } from './trie.ts';

const space: TrieSpace = { chainOf: (digits) => `T${digits}`, matchOf: (digits) => `-d ${digits}` };

/** Few distinct digits, so that keys share long beginnings and branches fork and merge often. */
const key = fc.array(fc.constantFrom('0', '1', 'a'), { minLength: 5, maxLength: 5 }).map((digits) => digits.join(''));
const update = fc.array(fc.tuple(key, fc.constantFrom(0, 1, 5, 30)), { minLength: 1, maxLength: 12 });

const rulesOf = (k: string, count: number): string[] => Array.from({ length: count }, (_, i) => `rule ${i} of ${k}`);

describe('a tree of chains', () => {
  it('changes only what its keys touch, and ends as if it had been made at once', () => {
    fc.assert(
      fc.property(fc.array(update, { maxLength: 12 }), (updates) => {
        const trie = new RuleTrie(space);
        const held = new Map<string, number>();
        const kernel = new Map(trie.all());
        for (const changes of updates) {
          const batch = new Map(changes);
          for (const [k, count] of batch) held.set(k, count);
          const { chains, gone } = trie.update(new Map(Array.from(batch, ([k, count]) => [k, rulesOf(k, count)])));
          for (const [name, rules] of chains) kernel.set(name, rules);
          for (const name of gone) kernel.delete(name);
        }
        const atOnce = new RuleTrie(space);
        atOnce.update(new Map(Array.from(held, ([k, count]) => [k, rulesOf(k, count)])));
        expect(kernel).toEqual(trie.all());
        expect(kernel).toEqual(atOnce.all());
      }),
    );
  });

  it('leads every key to its rules, in order, past few others', () => {
    fc.assert(
      fc.property(fc.uniqueArray(key, { maxLength: 200 }), (keys) => {
        const trie = new RuleTrie(space);
        trie.update(new Map(keys.map((k) => [k, rulesOf(k, 2)])));
        for (const k of keys) {
          const { found, passed } = follow(trie.all(), k);
          expect(found).toEqual(rulesOf(k, 2));
          expect(passed).toBeLessThan(120);
          expect(trie.all().get(trie.chainFor(k))).toEqual(expect.arrayContaining(rulesOf(k, 2)));
        }
      }),
    );
  });

  it('is one chain while it is small, and only a root when it is empty', () => {
    const trie = new RuleTrie(space);
    trie.update(new Map([['0000', ['x']]]));
    expect(trie.all()).toEqual(new Map([['T', ['x']]]));
    expect(trie.update(new Map([['0000', []]]))).toEqual({ chains: new Map([['T', []]]), gone: [] });
  });
});

function follow(chains: ReadonlyMap<string, readonly string[]>, k: string): { found: string[]; passed: number } {
  const found: string[] = [];
  let passed = 0;
  const enter = (name: string): void => {
    for (const rule of chains.get(name) ?? []) {
      passed++;
      const jump = /^-d (\S+) -j (\S+)$/.exec(rule);
      if (jump === null) {
        if (rule.endsWith(` of ${k}`)) found.push(rule);
      } else if (k.startsWith(jump[1] ?? '')) enter(jump[2] ?? '');
    }
  };
  enter('T');
  return { found, passed };
}
