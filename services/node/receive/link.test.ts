import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DigestSums, digestOf, digestToBytes } from '@octoplane/model/digest.ts';
import { Plan_Kind } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { nodeName } from '@octoplane/model/keys.ts';
import { emptyRuleSet, type RuleSet } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FakeKernel, fakeModule } from '../drivers/fake.ts';
import { runNode } from '../main.ts';
import { defaultNodeOptions } from '../options.ts';
import { arbitraryRuleSet } from '../testing/arbitrary.ts';
import { Controller, type Conversation } from '../testing/controller.ts';
import { deltaFrame, repairFrame } from '../testing/frames.ts';
import { silentLogger } from '../testing/logger.ts';

const a: RuleSet = fc.sample(arbitraryRuleSet, { numRuns: 1, seed: 1 })[0] ?? emptyRuleSet;
const b: RuleSet = fc.sample(arbitraryRuleSet, { numRuns: 1, seed: 2 })[0] ?? emptyRuleSet;
const version = (sequence: number) => ({ epoch: 7, sequence });

let stateDir = '';
let kernel = new FakeKernel();
let stopNode = new AbortController();
let running: Promise<void> = Promise.resolve();
let controllers: Controller[] = [];

beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'octoplane-link-'));
  kernel = new FakeKernel();
  controllers = [];
});

afterEach(async () => {
  await stop();
  for (const controller of controllers) controller.stop();
  rmSync(stateDir, { recursive: true });
});

async function controller(): Promise<Controller> {
  const created = await new Controller().listen();
  controllers.push(created);
  return created;
}

function start(...addresses: readonly string[]): void {
  stopNode = new AbortController();
  running = runNode(
    {
      ...defaultNodeOptions,
      controllers: addresses,
      nodeName: nodeName('node-1'),
      driver: 'fake',
      stateDir,
      zone: 'east',
      transport: { t: 'insecure' },
      healthzBindAddress: null,
      metricsBindAddress: null,
    },
    { logger: silentLogger, signal: stopNode.signal, registry: new Map([['fake', async () => fakeModule(kernel)]]) },
  );
}

async function stop(): Promise<void> {
  stopNode.abort();
  await running;
}

async function snapshot(peer: Conversation, ruleSet: RuleSet, sequence: number): Promise<void> {
  peer.plan(Plan_Kind.SNAPSHOT);
  peer.says({ $case: 'frame', value: repairFrame(ruleSet, { to: version(sequence) }) });
  expect(await peer.hears('ack')).toMatchObject({
    epoch: 7,
    programmed: sequence,
    digest: digestToBytes(digestOf(ruleSet)),
  });
}

describe('the stream', () => {
  it('takes a node from nothing over a snapshot in parts to a delta', async () => {
    const brain = await controller();
    start(brain.address);
    const peer = await brain.next();
    const hello = await peer.hears('hello');
    expect(hello).toMatchObject({ nodeName: 'node-1', zone: 'east', driver: 'fake', schema: 1 });
    expect(hello.digest.length).toBe(0);
    peer.plan(Plan_Kind.SNAPSHOT);
    const whole = repairFrame(a, { to: version(1) });
    const half = Math.floor(whole.changes.length / 2);
    peer.says({
      $case: 'frame',
      value: { ...whole, changes: whole.changes.slice(0, half), more: true, digest: Buffer.alloc(0) },
    });
    expect(kernel.entries.size).toBe(0);
    peer.says({ $case: 'frame', value: { ...whole, changes: whole.changes.slice(half) } });
    expect(await peer.hears('ack')).toMatchObject({ programmed: 1, received: 1, validated: 1 });
    peer.says({ $case: 'frame', value: deltaFrame(a, b, { from: version(1), to: version(2) }) });
    expect(await peer.hears('ack')).toMatchObject({ programmed: 2, digest: digestToBytes(digestOf(b)) });
  });

  it('resumes by version after a restart, and by digest under another name', async () => {
    const brain = await controller();
    start(brain.address);
    const first = await brain.next();
    await first.hears('hello');
    await snapshot(first, a, 1);
    await stop();
    start(brain.address);
    const second = await brain.next();
    expect(await second.hears('hello')).toMatchObject({ held: version(1), digest: digestToBytes(digestOf(a)) });
    second.plan(Plan_Kind.UP_TO_DATE, { head: { epoch: 9, sequence: 4 } });
    second.says({
      $case: 'frame',
      value: deltaFrame(a, b, { from: { epoch: 9, sequence: 4 }, to: { epoch: 9, sequence: 5 } }),
    });
    expect(await second.hears('ack')).toMatchObject({ epoch: 9, programmed: 5 });
  });

  it('repairs only the buckets that differ', async () => {
    const brain = await controller();
    start(brain.address);
    const peer = await brain.next();
    await peer.hears('hello');
    await snapshot(peer, a, 1);
    await stop();
    start(brain.address);
    const again = await brain.next();
    await again.hears('hello');
    again.plan(Plan_Kind.BUCKET_REPAIR);
    const { digests } = await again.hears('bucketDigests');
    const wanted = DigestSums.of(b).toBytes();
    const differing = new Set<number>();
    for (let i = 0; i < 1024; i++)
      if (!digests.subarray(i * 8, i * 8 + 8).equals(wanted.subarray(i * 8, i * 8 + 8))) differing.add(i);
    again.says({ $case: 'frame', value: repairFrame(b, { to: { epoch: 9, sequence: 1 } }, differing) });
    expect(await again.hears('ack')).toMatchObject({ epoch: 9, programmed: 1, digest: digestToBytes(digestOf(b)) });
  });

  it('goes where a Move sends it, after the frame in hand is answered', async () => {
    const [here, there] = [await controller(), await controller()];
    start(here.address);
    const peer = await here.next();
    await peer.hears('hello');
    peer.plan(Plan_Kind.SNAPSHOT);
    peer.says({ $case: 'frame', value: repairFrame(a, { to: version(1) }) });
    peer.says({ $case: 'move', value: { to: there.address, reason: 'shutting down' } });
    await peer.hears('ack');
    const moved = await there.next();
    expect(await moved.hears('hello')).toMatchObject({ held: version(1) });
  });

  it('fails over to another controller', async () => {
    const [here, there] = [await controller(), await controller()];
    here.stop();
    start(here.address, there.address);
    const peer = await there.next();
    await peer.hears('hello');
  });

  it.each([
    [
      'a frame before the plan',
      (peer: Conversation) => peer.says({ $case: 'frame', value: repairFrame(a, { to: version(1) }) }),
    ],
    ['two plans', (peer: Conversation) => [peer.plan(Plan_Kind.DELTA), peer.plan(Plan_Kind.DELTA)]],
    [
      'parts that lead to different versions',
      (peer: Conversation) => {
        peer.plan(Plan_Kind.SNAPSHOT);
        peer.says({ $case: 'frame', value: { ...repairFrame(a, { to: version(1) }), more: true } });
        peer.says({ $case: 'frame', value: repairFrame(a, { to: version(2) }) });
      },
    ],
  ])('ends a stream that brings %s, and starts anew', async (_, misbehave) => {
    const brain = await controller();
    start(brain.address);
    const peer = await brain.next();
    await peer.hears('hello');
    misbehave(peer);
    expect(await peer.ended()).toBe(true);
    const again = await brain.next();
    await again.hears('hello');
    await snapshot(again, a, 1);
  });
});
