import { getContainerRuntimeClient } from 'testcontainers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Collector } from '../support/collector/collector.ts';
import { faultsOf } from '../support/collector/tree.ts';
import { Stack } from '../support/containers/stack.ts';

const everybody = ['node-1', 'node-2', 'node-3'];
let stack: Stack;
let collector: Collector;

beforeAll(async () => {
  // This machine's address on the engine's own bridge: containers reach it through whatever network they are on.
  const bridge = await (await getContainerRuntimeClient()).network.getById('bridge').inspect();
  collector = await Collector.listen(bridge.IPAM?.Config?.[0]?.['Gateway']);
  const { OTEL_EXPORTER_OTLP_ENDPOINT = '' } = collector.environment('http/protobuf');
  stack = await Stack.open('stack', 3, { OTLP_ENDPOINT: OTEL_EXPORTER_OTLP_ENDPOINT });
  await stack.up();
});
afterAll(async () => {
  await stack[Symbol.asyncDispose]();
  await collector[Symbol.asyncDispose]();
});

/** So many connections were opened while something happened, and each of them was answered by a backend. */
const isWithoutFailure = (times: number) => (answers: ReadonlyMap<string, number>) =>
  [...answers.keys()].every((who) => everybody.includes(who)) &&
  [...answers.values()].reduce((sum, count) => sum + count, 0) === times;
const whoAnswers = async (from: string, url?: string) => [...(await stack.call(from, url)).keys()].sort();
const stateOf = async (node: string): Promise<string> =>
  JSON.parse(await stack.octoplane('nodes', node, '-o', 'json')).nodes[0].state;
/** The last plan that a node was given: how much had to be sent to it when it connected. */
const lastPlan = async (node: string) =>
  (await stack.log(node)).findLast(({ msg }) => msg === 'connected to a controller')?.['plan'];

test('every backend answers at the service address from every node, at node ports from other hosts, and from outside', async () => {
  for (const node of everybody) expect(await whoAnswers(node)).toEqual(everybody);
  expect(await whoAnswers('host-1', 'http://node-2.data:30080')).toEqual(everybody);
  const { NetworkSettings } = await stack.container('host-1').inspect();
  const published = NetworkSettings.Ports['30080/tcp']?.[0]?.HostPort;
  expect(everybody).toContain((await (await fetch(`http://127.0.0.1:${published}`)).text()).trim());
});

test('root file systems are read-only, the controller is nobody, and a node has NET_ADMIN and no more', async () => {
  for (const service of ['controller', 'node-1']) {
    expect((await stack.container(service).inspect()).HostConfig.ReadonlyRootfs).toBe(true);
    expect((await stack.exec(service, 'touch', '/opt/octoplane/x')).output).toContain('Read-only file system');
  }
  const status = async (service: string) => (await stack.exec(service, 'cat', '/proc/1/status')).output;
  expect(await status('controller')).toMatch(/Uid:\s+65532\s[\s\S]*CapEff:\s+0{16}\n[\s\S]*NoNewPrivs:\s+1/);
  expect(await status('node-1')).toMatch(/Uid:\s+0\s[\s\S]*CapEff:\s+0000000000001000\n[\s\S]*NoNewPrivs:\s+1/);
});

test('a backend that is stopped leaves without a failed connection, in one trace that ends in three kernels', async () => {
  const { answers } = await stack.startCalling('host-1', 3_000);
  const backend = stack.container('backend-2');
  await backend.stop({ t: 15 });
  // By itself, and not because the engine lost its patience.
  expect((await backend.inspect()).State.ExitCode).toBe(0);
  expect(await answers).toSatisfy(isWithoutFailure(3_000));
  expect(await whoAnswers('host-1')).toEqual(['node-1', 'node-3']);

  const [last] = JSON.parse(await stack.octoplane('history', '-o', 'json')).changes;
  const programmed = () => collector.trace(last.traceId).filter(({ name }) => name === 'deliver');
  await collector.until(() => programmed().length === 3);
  expect(faultsOf(collector.trace(last.traceId))).toEqual([]);

  await backend.start();
  await stack.converged();
  expect(await whoAnswers('host-1')).toEqual(everybody);
});

test('daemons are replaced one after the other under load: nobody notices', async () => {
  const { answers } = await stack.startCalling('host-1', 5_000);
  for (const node of everybody) {
    await stack.container(node).restart({ t: 5 });
    await stack.octoplane('wait', '--quorum', '3');
  }
  expect(await answers).toSatisfy(isWithoutFailure(5_000));
  expect(await lastPlan('node-1')).not.toBe('SNAPSHOT');
});

test('the controller is killed: connections go on, and nodes come back without being sent everything again', async () => {
  const controller = stack.container('controller');
  await controller.kill();
  for (const node of everybody) expect(await whoAnswers(node)).toEqual(everybody);
  await controller.start();
  await stack.converged();
  for (const node of everybody) expect(await lastPlan(node)).not.toBe('SNAPSHOT');
});

test('a node that is cut off forwards on, is named, and catches up', async () => {
  const control = stack.network('control');
  const host = stack.container('host-1');
  await control.disconnect({ Container: host.id, Force: true });
  expect(await whoAnswers('host-1')).toEqual(everybody);
  await expect.poll(() => stateOf('node-1'), { timeout: 60_000 }).toMatch(/DISCONNECTED/);
  // Its backend has lost its lease by now, and others have heard of that; it has not, and its rules are as they were.
  expect(await whoAnswers('host-2')).toEqual(['node-2', 'node-3']);
  expect(await whoAnswers('host-1')).toEqual(everybody);

  const missed = stack.container('backend-3');
  await missed.stop({ t: 15 });
  await control.connect({ Container: host.id });
  await stack.octoplane('wait', '--endpoint', `${await stack.addressOf(1)}:8080`, '--quorum', '3');
  await stack.octoplane('wait', '--gone', `${await stack.addressOf(3)}:8080`);
  expect(await whoAnswers('host-1')).toEqual(['node-1', 'node-2']);
  await missed.start();
  await stack.converged();
});
