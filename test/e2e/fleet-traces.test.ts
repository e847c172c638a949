import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { AdminServiceClient, type ChangeRecord } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { afterEach, describe, expect, it } from 'vitest';
import { maxNotableNodes } from '../../services/controller/tracing/notable-nodes.ts';
import { Collector } from '../support/collector/collector.ts';
import type { CollectedSpan } from '../support/collector/decode.ts';
import { faultsOf } from '../support/collector/tree.ts';
import { Child } from '../support/stub-nodes/child.ts';
import { controllerOptions } from '../support/stub-nodes/controller-options.ts';
import type { ControllerReport, ControllerRequest } from '../support/stub-nodes/controller-process.ts';
import { arrivedChange, historyOf, programmedEverywhere } from '../support/stub-nodes/fleet-admin.ts';
import { changeOneEndpoint, fleetZones, writeCluster } from '../support/stub-nodes/fleet-manifests.ts';
import type { Answered, FleetReport, FleetRequest } from '../support/stub-nodes/fleet-process.ts';

let cleanUp = new AsyncDisposableStack();
afterEach(async () => {
  await cleanUp.disposeAsync();
  cleanUp = new AsyncDisposableStack();
});

/** A controller in a process of its own and a fleet of recording stubs in another, all at the newest version. */
async function fleetOf(nodes: number, env: Record<string, string>, signal: AbortSignal, answerWithinMs = 20) {
  const directory = mkdtempSync(join(tmpdir(), 'octoplane-traces-'));
  cleanUp.defer(() => rmSync(directory, { recursive: true }));
  const manifests = join(directory, 'manifests');
  writeCluster(manifests);
  const controller = new Child<ControllerRequest, ControllerReport>('./controller-process.ts', { env });
  cleanUp.defer(() => controller.kill());
  const stubs = new Child<FleetRequest, FleetReport>('./fleet-process.ts');
  cleanUp.defer(() => stubs.kill());
  const options = controllerOptions({
    sources: [{ name: 'file', kind: 'file', target: manifests }],
  });
  const ports = await controller.ask({ t: 'start', logLevel: 'error', options }, 'listening');
  const address = `127.0.0.1:${ports.grpc}`;
  stubs.send({ t: 'start', address, nodes, zones: fleetZones, tls: null, answerWithinMs, isRecording: true });
  await stubs.next('planned', signal);
  const admin = new AdminServiceClient(address, credentials.createInsecure());
  cleanUp.defer(() => admin.close());
  await programmedEverywhere(admin, nodes, signal);
  let turn = 0;
  return {
    controller,
    stubs,
    admin,
    /** Makes so many changes, one after the other has arrived. */
    async change(times: number): Promise<ChangeRecord[]> {
      const made: ChangeRecord[] = [];
      for (let i = 0; i < times; i++)
        made.push(await arrivedChange(admin, changeOneEndpoint(manifests, turn++), signal));
      return made;
    },
    /** The second as soon as the first is committed. */
    async changeTwice(): Promise<ChangeRecord[]> {
      const before = await headOf(admin);
      changeOneEndpoint(manifests, turn++);
      let first = before;
      while (first === before) first = await headOf(admin);
      const second = await arrivedChange(admin, changeOneEndpoint(manifests, turn++), signal);
      const history = await historyOf(admin, 10);
      return [...history.filter(({ version }) => version?.sequence === first), second];
    },
    async metric(name: string): Promise<number> {
      const text = await (await fetch(`http://127.0.0.1:${ports.http}/metrics`)).text();
      const line = text.split('\n').find((each) => each.startsWith(`${name} `));
      return Number(line?.slice(name.length + 1) ?? 0);
    },
  };
}

const headOf = async (admin: AdminServiceClient): Promise<number> =>
  (await historyOf(admin, 1))[0]?.version?.sequence ?? 0;

const nodes = 2000;

describe('2,000 nodes', () => {
  it('converge when they say so themselves, and each change is one sound trace of bounded size', async ({ signal }) => {
    const collector = cleanUp.use(await Collector.listen());
    const fleet = await fleetOf(nodes, collector.environment('http/protobuf'), signal, 1000);
    // Pairs, the second while most nodes have yet to answer the first: these get it as soon as they have.
    const changes = [await fleet.changeTwice(), await fleet.changeTwice()].flat();

    // Each node answered before the controller counted it, and got its next frame after that. So the controller's figures lie
    // between what the stubs noted, and the middle one lies there closely.
    const { answers } = await fleet.stubs.ask({ t: 'recall' }, 'recording');
    const clocks = await fleet.controller.ask({ t: 'clocks' }, 'clocks');
    expect(answers).toHaveLength(nodes);
    for (const change of [changes[0], changes[2]].filter((each) => each !== undefined)) {
      const sequence = change.version?.sequence ?? 0;
      const sinceCommitUs = (monotonicUs: number) =>
        monotonicUs - clocks.monotonicUs + clocks.nowUs - change.committedAtUs;
      const answered = answers.map((own) => sinceCommitUs(answerTo(own, sequence).answeredUs));
      const asked = answers.map((own) => sinceCommitUs(answerTo(own, sequence + 1).receivedUs));
      for (const [percent, us] of percentilesOf(change)) {
        expect(us).toBeGreaterThanOrEqual(atRank(answered, percent) - clockErrorUs);
        expect(us).toBeLessThanOrEqual(atRank(asked, percent) + clockErrorUs);
      }
    }

    const isWhole = ({ traceId }: ChangeRecord) => collector.trace(traceId).length > 0;
    await collector.until(() => changes.every(isWhole), signal);
    for (const change of changes) {
      const trace = collector.trace(change.traceId);
      expect(faultsOf(trace)).toEqual([]);
      const deliveries = trace.filter(({ name }) => name === 'deliver');
      expect(deliveries.length).toBeLessThanOrEqual(maxNotableNodes);
      expect(deliveries.length).toBeGreaterThanOrEqual(10);
      const { nodes: count, p50Us, p99Us, p100Us, slowest } = change.convergence ?? {};
      expect(trace.find(({ name }) => name === 'fan-out')?.attributes).toMatchObject({
        'octoplane.nodes': count,
        'octoplane.nodes.programmed': nodes,
        'octoplane.nodes.late': 0,
        'octoplane.convergence.p50_us': p50Us,
        'octoplane.convergence.p99_us': p99Us,
        'octoplane.convergence.p100_us': p100Us,
      });
      expect(shownFor(deliveries, 'slowest')).toContain(slowest);
      expect(shownFor(deliveries, 'slowest')).toHaveLength(10);
      expect(new Set(zonesOf(deliveries, 'canary'))).toEqual(new Set(fleetZones));
      for (const delivery of deliveries)
        expect(trace.filter(({ parent }) => parent === delivery.id).map(({ name }) => name)).toEqual([
          'receive',
          'validate',
          'program',
          'read back',
        ]);
    }
    expect(await fleet.metric('octoplane_trace_spans_total{fate="exported"}')).toBe(collector.spans.length);
    expect(await fleet.metric('octoplane_trace_spans_waiting')).toBe(0);
  });
});

describe.each(['grpc', 'http/protobuf'] as const)('over %s', (protocol) => {
  const overflow = 'octoplane_trace_spans_total{fate="overflow"}';
  const failed = 'octoplane_trace_spans_total{fate="failed"}';
  /** Room for a trace or two, and an exporter that soon gives up. */
  const narrow = { OTEL_BSP_MAX_QUEUE_SIZE: '200', OTEL_EXPORTER_OTLP_TIMEOUT: '300' };

  it('headers and the name of the service are as the environment says, and a node is a service of its own', async ({
    signal,
  }) => {
    const collector = cleanUp.use(await Collector.listen());
    const env = {
      OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=blue',
      OTEL_SERVICE_NAME: 'brain',
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=lab,host.name=here',
    };
    const fleet = await fleetOf(3, { ...collector.environment(protocol), ...env }, signal);
    const [change] = await fleet.change(1);
    await collector.until(() => collector.trace(change?.traceId ?? '').length > 0, signal);
    expect(collector.lastHeaders).toMatchObject({ 'x-tenant': 'blue' });
    const resources = new Map(collector.spans.map(({ name, resource }) => [name, resource]));
    expect(resources.get('change')).toMatchObject({
      'service.name': 'brain',
      'service.version': 'test',
      'deployment.environment.name': 'lab',
      'host.name': 'here',
    });
    const node = resources.get('program');
    expect(node).toMatchObject({ 'service.name': 'octoplane-node', 'deployment.environment.name': 'lab' });
    expect(node).not.toHaveProperty('host.name');
  });

  it('a collector that refuses, does not answer or is gone stops nobody; what is lost is bounded and counted', async ({
    signal,
  }) => {
    const collector = await Collector.listen();
    const fleet = await fleetOf(20, { ...collector.environment(protocol), ...narrow }, signal, 0);
    /** Every change arrives, or this does not end. */
    const changeUntil = async (isOver: () => Promise<boolean> | boolean) => {
      do {
        await fleet.change(1);
        expect(await fleet.metric('octoplane_trace_spans_waiting')).toBeLessThanOrEqual(200);
      } while (!(await isOver()));
    };
    for (const [manner, fate] of [['refuses', failed] as const, ['silent', overflow] as const]) {
      const [lost, taken] = [await fleet.metric(fate), collector.spans.length];
      collector.manner = manner;
      await changeUntil(async () => (await fleet.metric(fate)) > lost);
      collector.manner = 'takes';
      await changeUntil(() => collector.spans.length > taken);
    }
    for (const id of new Set(collector.spans.map(({ traceId }) => traceId)))
      expect(faultsOf(collector.trace(id))).toEqual([]);

    await collector[Symbol.asyncDispose]();
    const lost = await fleet.metric(failed);
    await changeUntil(async () => (await fleet.metric(failed)) > lost);
  });
});

/** Two clocks are read one after the other; a process can lose its turn in between, in the closest of a hundred readings hardly. */
const clockErrorUs = 500;

function answerTo(answers: readonly Answered[], sequence: number): Answered {
  // Versions can be conflated: the first answer that covers it.
  const found = answers.find((answer) => answer.sequence >= sequence);
  if (!found) throw new Error(`no answer to ${sequence}`);
  return found;
}

/** The smallest value that so many per cent are not above. */
const atRank = (values: readonly number[], percent: number): number =>
  values.toSorted((a, b) => a - b)[Math.ceil((values.length * percent) / 100) - 1] ?? Number.NaN;

const percentilesOf = ({ convergence }: ChangeRecord): [number, number][] => [
  [50, convergence?.p50Us ?? 0],
  [99, convergence?.p99Us ?? 0],
  [100, convergence?.p100Us ?? 0],
];

const shown = (deliveries: readonly CollectedSpan[], distinction: string) =>
  deliveries.filter(({ attributes }) => (attributes['octoplane.shown_for'] as string[]).includes(distinction));
const shownFor = (deliveries: readonly CollectedSpan[], distinction: string) =>
  shown(deliveries, distinction).map(({ attributes }) => attributes['octoplane.node']);
const zonesOf = (deliveries: readonly CollectedSpan[], distinction: string) =>
  shown(deliveries, distinction).map(({ attributes }) => attributes['octoplane.zone']);
