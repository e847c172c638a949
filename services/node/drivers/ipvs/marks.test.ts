import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { describe, expect, it } from 'vitest';
import { Marks } from './marks.ts';

const key = (n: number) => `default/web-${n}:80/TCP` as ServicePortKey;

describe('marks', () => {
  it.each([0, 14, 20])('are different, and leave bit %i to the masquerade', (bit) => {
    const marks = new Marks(bit);
    const taken = new Set(Array.from({ length: 40_000 }, (_, n) => marks.acquire(key(n))));
    expect(taken.size).toBe(40_000);
    expect([...taken].filter((mark) => (mark & (2 ** bit)) !== 0 || mark < 2 ** 26 || mark >= 2 ** 28)).toEqual([]);
  });

  it('are kept until they are released, and what the kernel has is not given to another', () => {
    const marks = new Marks(14);
    const first = marks.acquire(key(1));
    expect(marks.acquire(key(1))).toBe(first);
    marks.clear();
    marks.adopt(key(2), first);
    expect(marks.acquire(key(3))).not.toBe(first);
    marks.release(key(2));
    expect(marks.of(key(2))).toBe(0);
  });
});
