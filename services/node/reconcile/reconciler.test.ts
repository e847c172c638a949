import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { diff } from '@octoplane/model/delta.ts';
import { digestOf, digestToBytes } from '@octoplane/model/digest.ts';
import { Nack_Reason, Nack_Stage } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { type Entry, emptyRuleSet, type RuleSet } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Driver, DriverError } from '../drivers/driver.ts';
import { FakeDriver, FakeKernel } from '../drivers/fake.ts';
import { FaultyDriver } from '../drivers/faulty.ts';
import { Journal } from '../journal/journal.ts';
import { arbitraryEntry, arbitraryRuleSet } from '../testing/arbitrary.ts';
import { FakeClock } from '../testing/clock.ts';
import { deltaFrame, received, repairFrame } from '../testing/frames.ts';
import { silentLogger } from '../testing/logger.ts';
import { driftOf } from './drift.ts';
import { silentObserver } from './observer.ts';
import { Reconciler } from './reconciler.ts';

const epoch = 7;
const version = (sequence: number) => ({ epoch, sequence });
const inputs = (revision: number) => [{ source: 'file', incarnation: 'a', revision }];

let stateDir = '';
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'octoplane-reconcile-'));
});
afterEach(() => rmSync(stateDir, { recursive: true }));

interface Daemon {
  readonly reconciler: Reconciler;
  stop(): void;
}

function daemon(driver: Driver, journaling = true): Daemon {
  const clock = new FakeClock();
  const journal = new Journal({ stateDir, logger: silentLogger, clock, smallTailBytes: 200 });
  if (!journaling) rmSync(join(stateDir, 'rule-set.journal'), { force: true });
  const held = journal.load();
  const reconciler = new Reconciler({
    driver,
    held,
    journal,
    flows: null,
    clock,
    logger: silentLogger,
    observer: silentObserver,
  });
  return { reconciler, stop: () => journal.close() };
}

const sample = (seed: number): RuleSet => fc.sample(arbitraryRuleSet, { numRuns: 1, seed })[0] ?? emptyRuleSet;
const a = sample(1);
const b = sample(2);

function expectKernel(kernel: FakeKernel, wanted: RuleSet): void {
  expect(driftOf(new FakeDriver(kernel), new Map(kernel.entries), wanted)).toEqual([]);
}

describe('a frame that fits', () => {
  it('is programmed, journalled and acknowledged with its digest', async () => {
    const kernel = new FakeKernel();
    const { reconciler, stop } = daemon(new FakeDriver(kernel));
    await reconciler.start();
    const answer = await reconciler.program(received(repairFrame(a, { to: version(1) })));
    expect(answer).toMatchObject({ $case: 'ack', value: { epoch, programmed: 1, digest: digestToBytes(digestOf(a)) } });
    expectKernel(kernel, a);
    expect(kernel.frame).toBe(true);
    const next = await reconciler.program(received(deltaFrame(a, b, { from: version(1), to: version(2) })));
    expect(next).toMatchObject({ $case: 'ack', value: { programmed: 2 } });
    expectKernel(kernel, b);
    stop();
  });

  it('survives a restart: the kernel is adopted, and Hello names the same version', async () => {
    const kernel = new FakeKernel();
    const first = daemon(new FakeDriver(kernel));
    await first.reconciler.start();
    await first.reconciler.program(received(repairFrame(a, { to: version(3) })));
    first.stop();
    const { transactions } = kernel;
    const second = daemon(new FakeDriver(kernel));
    await second.reconciler.start();
    expect(kernel.transactions).toBe(transactions);
    expect(await second.reconciler.summary()).toEqual({ version: version(3), digest: digestOf(a), inputs: [] });
    second.stop();
  });
});

describe('a frame that does not fit', () => {
  const cases = [
    {
      name: 'starts elsewhere',
      frame: deltaFrame(a, b, { from: version(8), to: version(9) }),
      reason: Nack_Reason.WRONG_BASE,
    },
    {
      name: 'has another digest',
      frame: { ...deltaFrame(a, b, { from: version(1), to: version(2) }), digest: Buffer.alloc(8) },
      reason: Nack_Reason.DIGEST_MISMATCH,
    },
    {
      name: 'has no digest',
      frame: { ...deltaFrame(a, b, { from: version(1), to: version(2) }), digest: Buffer.alloc(0) },
      reason: Nack_Reason.DIGEST_MISMATCH,
    },
    {
      name: 'comes from a replica that lags',
      frame: deltaFrame(a, b, { from: version(1), to: version(2), inputs: inputs(4) }),
      reason: Nack_Reason.STALE_INPUT,
    },
  ];
  it.each(cases)('because it $name, is refused before the kernel is touched', async ({ frame, reason }) => {
    const kernel = new FakeKernel();
    const { reconciler, stop } = daemon(new FakeDriver(kernel));
    await reconciler.program(received(repairFrame(a, { to: version(1), inputs: inputs(5) })));
    const { transactions } = kernel;
    const answer = await reconciler.program(received(frame));
    expect(answer).toMatchObject({
      $case: 'nack',
      value: { reason, stage: Nack_Stage.VALIDATE, held: version(1), refused: frame.to },
    });
    expect(kernel.transactions).toBe(transactions);
    expectKernel(kernel, a);
    stop();
  });

  it('names every invalid entry', async () => {
    const { reconciler, stop } = daemon(new FakeDriver(new FakeKernel()));
    const frame = repairFrame(a, { to: version(1) });
    const broken = frame.changes.map((change, i) =>
      i < 2 ? { ...change, spec: change.spec && { ...change.spec, nodePort: 70_000 } } : change,
    );
    const answer = await reconciler.program(received({ ...frame, changes: broken }));
    expect(answer.$case).toBe('nack');
    if (answer.$case === 'nack') {
      expect(answer.value.reason).toBe(Nack_Reason.INVALID_ENTRY);
      expect(answer.value.entries.map(({ key }) => key)).toEqual(broken.slice(0, 2).map(({ key }) => key));
    }
    stop();
  });

  it('for want of room names the entries that have none', async () => {
    const kernel = new FakeKernel({ capacity: 1 });
    const { reconciler, stop } = daemon(new FakeDriver(kernel));
    const answer = await reconciler.program(received(repairFrame(a, { to: version(1) })));
    expect(answer).toMatchObject({ $case: 'nack', value: { reason: Nack_Reason.CAPACITY } });
    if (answer.$case === 'nack') expect(answer.value.entries.length).toBeGreaterThan(0);
    expect(kernel.entries.size).toBe(0);
    stop();
  });
});

describe('before a controller is in sync', () => {
  it('leaves what it finds in the kernel alone', async () => {
    const kernel = new FakeKernel();
    for (const [key, entry] of a) kernel.entries.set(key, entry);
    const { reconciler, stop } = daemon(new FakeDriver(kernel));
    await reconciler.start();
    await reconciler.checkDrift('test');
    expect(new Map(kernel.entries)).toEqual(a);
    expect(await reconciler.summary()).toMatchObject({ version: { epoch: 0 }, digest: null });
    stop();
  });

  it('leaves what it finds alone even when the first rule set fails', async () => {
    const kernel = new FakeKernel();
    for (const [key, entry] of a) kernel.entries.set(key, entry);
    const found = new Map(kernel.entries);
    const driver = new FakeDriver(kernel);
    const apply = driver.apply.bind(driver);
    driver.apply = () => {
      driver.apply = apply;
      return Promise.reject(new DriverError('nothing is in'));
    };
    const { reconciler, stop } = daemon(driver);
    const answer = await reconciler.program(received(repairFrame(b, { to: version(1) })));
    expect(answer).toMatchObject({ $case: 'nack', value: { reason: Nack_Reason.KERNEL_REFUSED } });
    expect(new Map(kernel.entries)).toEqual(found);
    stop();
  });

  it('does not take a dump that fails for an empty kernel', async () => {
    const kernel = new FakeKernel();
    const working = daemon(new FakeDriver(kernel));
    await working.reconciler.program(received(repairFrame(a, { to: version(1) })));
    working.stop();
    const driver = new FaultyDriver(new FakeDriver(kernel), { seed: 1, rate: 1 });
    const { reconciler, stop } = daemon(driver);
    await reconciler.start();
    expect(reconciler.kernelState.t).toBe('unknown');
    expect(await reconciler.summary()).toMatchObject({ digest: null });
    expectKernel(kernel, a);
    driver.healthy = true;
    await reconciler.checkDrift('test');
    expect(await reconciler.summary()).toMatchObject({ digest: digestOf(a) });
    stop();
  });
});

describe('drift', () => {
  it('is repaired towards what is held', async () => {
    const kernel = new FakeKernel();
    const { reconciler, stop } = daemon(new FakeDriver(kernel));
    await reconciler.program(received(repairFrame(a, { to: version(1) })));
    kernel.disturb('flush', ({ entries }) => entries.clear());
    kernel.frame = false;
    kernel.orphans = 2;
    await reconciler.checkDrift('flush');
    expectKernel(kernel, a);
    expect(kernel).toMatchObject({ frame: true, orphans: 0 });
    stop();
  });
});

type Event =
  | { readonly t: 'delta'; readonly entry: Entry }
  | { readonly t: 'remove'; readonly index: number }
  | { readonly t: 'repair'; readonly ruleSet: RuleSet }
  | { readonly t: 'restart'; readonly journaling: boolean }
  | { readonly t: 'flush' }
  | { readonly t: 'check' };

const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .nat(5)
      .chain(arbitraryEntry)
      .map((entry) => ({ t: 'delta' as const, entry })),
  },
  { weight: 3, arbitrary: fc.nat(5).map((index) => ({ t: 'remove' as const, index })) },
  { weight: 1, arbitrary: arbitraryRuleSet.map((ruleSet) => ({ t: 'repair' as const, ruleSet })) },
  { weight: 2, arbitrary: fc.boolean().map((journaling) => ({ t: 'restart' as const, journaling })) },
  { weight: 1, arbitrary: fc.constant({ t: 'flush' as const }) },
  { weight: 1, arbitrary: fc.constant({ t: 'check' as const }) },
);

describe('under random frames, faults, kills and neighbours', () => {
  it('acks tell the truth, and in the end the kernel holds the rule set', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 60 }), fc.integer(), async (events, seed) => {
        const run = new Run(seed);
        try {
          for (const next of events) await run.meet(next);
          await run.settle();
        } finally {
          run.current.stop();
        }
      }),
      { numRuns: 120 },
    );
  });
});

/** A controller, a kernel and a daemon on a driver that fails a tenth of its operations. */
class Run {
  readonly #kernel = new FakeKernel();
  readonly #driver: FaultyDriver;
  /** What the controller wants. */
  #wanted: RuleSet = emptyRuleSet;
  /** What the daemon has acknowledged; null: nothing. */
  #acked: { readonly ruleSet: RuleSet; readonly sequence: number } | null = null;
  #sequence = 0;
  /** A neighbour has flushed the kernel, and nothing has been read whole since. */
  #flushed = false;
  current: Daemon;

  constructor(seed: number) {
    rmSync(join(stateDir, 'rule-set.journal'), { force: true });
    this.#driver = new FaultyDriver(new FakeDriver(this.#kernel), { seed });
    this.current = daemon(this.#driver);
  }

  async meet(next: Event): Promise<void> {
    const touched = this.#kernel.entries.size;
    switch (next.t) {
      case 'delta':
        this.#wanted = new Map(this.#wanted).set(next.entry.key, next.entry);
        return this.#send();
      case 'remove': {
        const wanted = new Map(this.#wanted);
        const key = [...wanted.keys()][next.index];
        if (key) wanted.delete(key);
        this.#wanted = wanted;
        return this.#send();
      }
      case 'repair':
        this.#wanted = next.ruleSet;
        return this.#send('repair');
      case 'restart':
        await this.current.reconciler.idle();
        this.current.stop();
        this.current = daemon(this.#driver, next.journaling);
        await this.current.reconciler.start();
        if (!next.journaling) {
          expect(this.#kernel.entries.size).toBe(touched);
          this.#acked = null;
        }
        return;
      case 'flush':
        this.#kernel.entries.clear();
        this.#flushed = true;
        return;
      case 'check':
        await this.current.reconciler.checkDrift('test');
        if (this.#acked && this.current.reconciler.kernelState.t === 'in-place') this.#flushed = false;
        return;
    }
  }

  /** As a controller resumes: by version where it can, otherwise whole. */
  async #send(kind: 'delta' | 'repair' = 'delta'): Promise<void> {
    const { reconciler } = this.current;
    const summary = await reconciler.summary();
    const acked = this.#acked;
    const from = version(acked?.sequence ?? 0);
    const to = version(++this.#sequence);
    const resumes = kind === 'delta' && acked && summary.digest !== null;
    if (resumes) expect(summary).toMatchObject({ version: from, digest: digestOf(acked.ruleSet) });
    const frame = resumes ? deltaFrame(acked.ruleSet, this.#wanted, { from, to }) : repairFrame(this.#wanted, { to });
    const before = [...this.#kernel.entries.values()];
    const answer = await reconciler.program(received(frame));
    if (answer.$case === 'ack') {
      this.#expectAckIsTrue(new Set(diff(acked?.ruleSet ?? emptyRuleSet, this.#wanted).keys()));
      this.#acked = { ruleSet: this.#wanted, sequence: to.sequence };
    } else if (answer.value.stage === Nack_Stage.VALIDATE) {
      expect([...this.#kernel.entries.values()]).toEqual(before);
    }
  }

  /** The kernel holds all of it, but for what the neighbour has flushed behind our back and the frame did not touch. */
  #expectAckIsTrue(touched: ReadonlySet<string>): void {
    const drift = driftOf(new FakeDriver(this.#kernel), new Map(this.#kernel.entries), this.#wanted);
    expect(drift.filter(({ key }) => !this.#flushed || touched.has(key))).toEqual([]);
  }

  async settle(): Promise<void> {
    this.#driver.healthy = true;
    await this.#send('repair');
    await this.current.reconciler.checkDrift('test');
    expectKernel(this.#kernel, this.#wanted);
    expect(await this.current.reconciler.summary()).toMatchObject({ digest: digestOf(this.#wanted) });
  }
}
