import { emptyRuleSet } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { FakeDriver, FakeKernel } from '../drivers/fake.ts';
import { FaultyDriver } from '../drivers/faulty.ts';
import { arbitraryRuleSet } from '../testing/arbitrary.ts';
import { FakeClock } from '../testing/clock.ts';
import { received, repairFrame } from '../testing/frames.ts';
import { silentLogger } from '../testing/logger.ts';
import { HeldRuleSet } from './held.ts';
import { silentObserver } from './observer.ts';
import { Reconciler } from './reconciler.ts';
import { healKernel } from './self-healing.ts';

const [ruleSet = emptyRuleSet] = fc.sample(arbitraryRuleSet, { numRuns: 1, seed: 1 });
const syncPeriodMs = 30_000;

let clock = new FakeClock();
let kernel = new FakeKernel();
let driver = new FaultyDriver(new FakeDriver(kernel), { seed: 1, rate: 1 });
let stop = new AbortController();
let healing: Promise<void> = Promise.resolve();
let repaired: string[] = [];

beforeEach(async () => {
  clock = new FakeClock();
  kernel = new FakeKernel();
  driver = new FaultyDriver(new FakeDriver(kernel), { seed: 1, rate: 1 });
  driver.healthy = true;
  stop = new AbortController();
  repaired = [];
  const reconciler = new Reconciler({
    driver,
    held: HeldRuleSet.nothing(),
    journal: { commit: async () => undefined, compact: async () => undefined },
    flows: null,
    clock,
    logger: silentLogger,
    observer: { ...silentObserver, driftRepaired: ({ entries, objects }) => repaired.push(`${entries} ${objects}`) },
  });
  await reconciler.program(received(repairFrame(ruleSet, { to: { epoch: 1, sequence: 1 } })));
  healing = healKernel({ driver, reconciler, clock, syncPeriodMs }, stop.signal);
  await settled();
});

afterEach(async () => {
  stop.abort();
  await healing;
});

/** Everything that can go on without the clock has gone on. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

async function pass(ms: number): Promise<void> {
  clock.advance(ms);
  await settled();
}

const flush = () =>
  kernel.disturb('flush', ({ entries }) => {
    entries.clear();
  });

it('a disturbance that the kernel tells of is repaired at once', async () => {
  flush();
  await settled();
  expect(kernel.entries.size).toBe(ruleSet.size);
  expect(repaired).toEqual([`${ruleSet.size} 0`]);
});

it('disturbances in a row are repaired once a second', async () => {
  for (let i = 0; i < 10; i++) flush();
  await settled();
  flush();
  await settled();
  expect(kernel.entries.size).toBe(0);
  expect(repaired.length).toBe(1);
  await pass(1000);
  expect(kernel.entries.size).toBe(ruleSet.size);
  expect(repaired.length).toBe(2);
});

it('one that nobody tells of is repaired within the sync period', async () => {
  kernel.entries.clear();
  kernel.disturbances++;
  await pass(syncPeriodMs - 1);
  expect(kernel.entries.size).toBe(0);
  await pass(1);
  expect(kernel.entries.size).toBe(ruleSet.size);
});

it('a kernel that vouches for itself is not dumped', async () => {
  const { dumps } = kernel;
  for (let i = 0; i < 5; i++) {
    await pass(syncPeriodMs);
    await pass(1000);
  }
  expect(kernel.dumps).toBe(dumps);
  expect(repaired).toEqual([]);
});

it('a driver that fails is tried again with back-off until it does not', async () => {
  driver.healthy = false;
  flush();
  await settled();
  expect(kernel.entries.size).toBe(0);
  for (const delayMs of [2000, 4000, 8000]) {
    const { faults } = driver;
    await pass(1000);
    await pass(delayMs - 1);
    expect(driver.faults).toBe(faults);
    await pass(1);
    expect(driver.faults).toBe(faults + 1);
  }
  driver.healthy = true;
  await pass(1000);
  await pass(syncPeriodMs);
  expect(kernel.entries.size).toBe(ruleSet.size);
});

it('ends with its signal, whatever it waits for', async () => {
  stop.abort();
  await healing;
  expect(clock.waiting).toBe(0);
});
