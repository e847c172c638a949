import { changesBetween, type EntryChange } from '@octoplane/model/delta.ts';
import { emptyRuleSet, type RuleSet } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { DriverError } from '../drivers/driver.ts';
import { FakeDriver, FakeKernel } from '../drivers/fake.ts';
import { arbitraryRuleSet } from '../testing/arbitrary.ts';
import { FakeClock } from '../testing/clock.ts';
import { silentLogger } from '../testing/logger.ts';
import { driftOf } from './drift.ts';
import { Kernel } from './kernel.ts';

/** Each rule of Kernel for when the driver fails, with failures in a given order. */

const sampled = (seed: number): RuleSet => fc.sample(arbitraryRuleSet, { numRuns: 1, seed })[0] ?? emptyRuleSet;
const [a, b] = [sampled(1), sampled(2)];
const changes = (before: RuleSet, after: RuleSet): EntryChange[] => [...changesBetween(before, after)];

type Step = 'apply' | 'dump' | 'prune';

/** Fails the next calls as listed; a torn apply leaves half of its changes behind. */
class ScriptedDriver extends FakeDriver {
  readonly script: { readonly step: Step; readonly error: DriverError }[] = [];

  override async apply(list: readonly EntryChange[]): Promise<void> {
    const failure = this.#next('apply');
    if (failure?.torn) await super.apply(list.slice(0, list.length >> 1));
    if (failure) throw failure;
    return super.apply(list);
  }

  override async dump(): Promise<RuleSet> {
    const failure = this.#next('dump');
    if (failure) throw failure;
    return super.dump();
  }

  override async prune(wanted: RuleSet): Promise<number> {
    const failure = this.#next('prune');
    if (failure) throw failure;
    return super.prune(wanted);
  }

  #next(step: Step): DriverError | undefined {
    return this.script[0]?.step === step ? this.script.shift()?.error : undefined;
  }
}

const torn = new DriverError('half of it is in', { torn: true });
const clean = new DriverError('nothing is in');

let memory = new FakeKernel();
let driver = new ScriptedDriver(memory);
let kernel = kernelOn(driver);
let fullSyncs: string[] = [];

function kernelOn(target: ScriptedDriver): Kernel {
  const events = { fullSync: (why: string) => fullSyncs.push(why), dumped: () => undefined, failed: () => undefined };
  return new Kernel(target, { clock: new FakeClock(), logger: silentLogger, events });
}

const holds = (wanted: RuleSet): boolean => driftOf(driver, new Map(memory.entries), wanted).length === 0;

beforeEach(async () => {
  memory = new FakeKernel();
  driver = new ScriptedDriver(memory);
  fullSyncs = [];
  kernel = kernelOn(driver);
  await kernel.resync(a);
});

describe('a change that fails', () => {
  it('by a clean refusal of named entries leaves everything as it was, without a resync', async () => {
    const [{ key } = { key: 'default/web-0:80/TCP' as never }] = changes(a, b);
    const refusals = [{ key, reason: 'kernel' as const, message: 'no' }];
    driver.script.push({ step: 'apply', error: new DriverError('no', { refusals }) });
    const outcome = await kernel.program(changes(a, b), a, a);
    expect(outcome).toMatchObject({ t: 'refused', refusal: { entries: [{ key }] } });
    expect(fullSyncs).toEqual([]);
    expect(holds(a)).toBe(true);
    expect(kernel.state.t).toBe('in-place');
  });

  it.each([
    ['torn', torn],
    ['clean', clean],
  ])('%s is healed by a full resync to what is wanted', async (_, error) => {
    driver.script.push({ step: 'apply', error });
    expect(await kernel.program(changes(a, b), a, a)).toMatchObject({ t: 'programmed', full: true });
    expect(fullSyncs.length).toBe(1);
    expect(holds(b)).toBe(true);
  });

  it('and whose resync fails is taken back: the last good state is in place again', async () => {
    driver.script.push({ step: 'apply', error: torn }, { step: 'apply', error: torn });
    expect(await kernel.program(changes(a, b), a, a)).toMatchObject({ t: 'refused' });
    expect(holds(a)).toBe(true);
    expect(kernel.state.t).toBe('in-place');
  });

  it('and cannot be taken back leaves the kernel unknown, until the next change succeeds', async () => {
    const failures: Step[] = ['apply', 'dump', 'dump'];
    driver.script.push(...failures.map((step) => ({ step, error: torn })));
    expect(await kernel.program(changes(a, b), a, a)).toMatchObject({ t: 'refused' });
    expect(kernel.state.t).toBe('unknown');
    expect(await kernel.program(changes(a, b), a, a)).toMatchObject({ t: 'programmed', full: true });
    expect(holds(b)).toBe(true);
    expect(kernel.state.t).toBe('in-place');
  });

  it('when nothing good is known leaves what it finds: there is nothing to go back to', async () => {
    const found = kernelOn(driver);
    driver.script.push({ step: 'apply', error: clean });
    expect(await found.program(changes(emptyRuleSet, b), emptyRuleSet, null)).toMatchObject({ t: 'refused' });
    expect(holds(a)).toBe(true);
    expect(found.state.t).toBe('unknown');
  });
});

it.each<Step>(['dump', 'prune'])('a resync whose %s fails says so, and the kernel is unknown', async (step) => {
  driver.script.push({ step, error: clean });
  await expect(kernel.resync(a)).rejects.toMatchObject({ name: 'Failure', step });
  expect(kernel.state.t).toBe('unknown');
  await kernel.resync(a);
  expect(kernel.state.t).toBe('in-place');
});
