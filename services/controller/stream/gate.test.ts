import { expect, test } from 'vitest';
import { ManualClock } from '../../../test/support/stub-nodes/manual-clock.ts';
import { Gate, type Release } from './gate.ts';

function gateOf(width: number) {
  const clock = new ManualClock();
  const gate = new Gate({ width, leaseMs: 1000, clock });
  const inside: { name: string; release: Release }[] = [];
  const enter = (name: string) => gate.enter((release) => inside.push({ name, release }));
  return { clock, gate, inside, enter, names: () => inside.map(({ name }) => name) };
}

test('lets so many in, in their order', () => {
  const { inside, enter, names } = gateOf(2);
  for (const name of ['a', 'b', 'c', 'd']) enter(name);
  expect(names()).toEqual(['a', 'b']);
  inside[1]?.release();
  inside[1]?.release();
  expect(names()).toEqual(['a', 'b', 'c']);
});

test('who leaves the queue is passed over', () => {
  const { inside, enter, names, gate } = gateOf(1);
  enter('a');
  const leave = enter('b');
  enter('c');
  leave();
  expect(gate.waiting).toBe(1);
  inside[0]?.release();
  expect(names()).toEqual(['a', 'c']);
});

test('a place that is not given back is taken', () => {
  const { clock, inside, enter, names } = gateOf(1);
  enter('stalled');
  enter('next');
  clock.advance(999);
  expect(names()).toEqual(['stalled']);
  clock.advance(1);
  expect(names()).toEqual(['stalled', 'next']);
  inside[0]?.release();
  enter('third');
  expect(names()).toEqual(['stalled', 'next']);
  inside[1]?.release();
  expect(names()).toEqual(['stalled', 'next', 'third']);
  inside[2]?.release();
  expect(clock.timers).toBe(0);
});
