import { expect, it } from 'vitest';
import { MemoryTrimmer } from './memory.ts';
import { FakeClock } from './testing/clock.ts';

const settled = () => new Promise((resolve) => setImmediate(resolve));

it('memory is given back once after a bulk, and not for everyday changes', async () => {
  const clock = new FakeClock();
  let collections = 0;
  const trimmer = new MemoryTrimmer(clock, () => collections++);
  const stop = new AbortController();
  const running = trimmer.run(stop.signal);
  for (let i = 0; i < 100; i++) trimmer.note(1);
  await settled();
  clock.advance(60_000);
  await settled();
  expect(collections).toBe(0);
  trimmer.note(10_000);
  trimmer.note(10_000);
  await settled();
  expect(collections).toBe(0);
  clock.advance(2000);
  await settled();
  clock.advance(60_000);
  await settled();
  expect(collections).toBe(1);
  stop.abort();
  await running;
});

it('the real collection works on this runtime', async () => {
  const clock = new FakeClock();
  const trimmer = new MemoryTrimmer(clock);
  const stop = new AbortController();
  const running = trimmer.run(stop.signal);
  trimmer.note(1000);
  await settled();
  clock.advance(2000);
  await settled();
  stop.abort();
  await running;
});

it('a bulk that comes in pieces is one bulk, and is over when it has been quiet', async () => {
  const clock = new FakeClock();
  let collections = 0;
  const trimmer = new MemoryTrimmer(clock, () => collections++);
  const stop = new AbortController();
  const running = trimmer.run(stop.signal);
  for (let i = 0; i < 10; i++) {
    trimmer.note(300);
    await settled();
    clock.advance(1000);
    await settled();
    expect(collections).toBe(0);
  }
  clock.advance(2000);
  await settled();
  clock.advance(2000);
  await settled();
  expect(collections).toBe(1);
  stop.abort();
  await running;
});
