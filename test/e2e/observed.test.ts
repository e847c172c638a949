import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ChangeRecord } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { traceIdOf } from '@octoplane/model/trace-id.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Collector } from '../support/collector/collector.ts';
import { faultsOf } from '../support/collector/tree.ts';
import { Cluster, controllerHttpPort } from '../support/lab/cluster.ts';
import { Lab } from '../support/lab/lab.ts';
import { serviceManifest, sliceManifest } from '../support/lab/manifests.ts';
import { relayOutOf, relayTo } from '../support/lab/relay.ts';
import { Prometheus, promtool, rulesFile } from '../support/prometheus.ts';
import { historyOf } from '../support/stub-nodes/fleet-admin.ts';

/** Three real nodes, seen as an operator sees them: traces, logs, the dashboard and the alerts. */
let cleanUp: AsyncDisposableStack;
let lab: Lab;
let cluster: Cluster;
let collector: Collector;
const prometheusPort = 9090;
const metricsPort = 10_249;
const linked = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

beforeAll(async () => {
  cleanUp = new AsyncDisposableStack();
  lab = cleanUp.use(await Lab.create({ nodes: 3, families: ['IPv4'] }));
  collector = cleanUp.use(await Collector.listen());
  const env = collector.environment('grpc');
  const relay = cleanUp.use(
    await relayOutOf(lab, 'brain', Number(env['OTEL_EXPORTER_OTLP_ENDPOINT']?.split(':').at(-1))),
  );
  cluster = cleanUp.use(
    await Cluster.start(lab, {
      driver: 'nftables',
      nodeFlags: ['--metrics-bind-address', `0.0.0.0:${metricsPort}`],
      controllerFlags: ['--log-level', 'debug'],
      controllerEnv: {
        ...env,
        OTEL_EXPORTER_OTLP_TIMEOUT: '600000',
        OTEL_EXPORTER_OTLP_ENDPOINT: `http://${relay.address}`,
      },
    }),
  );
  cluster.source.put(serviceManifest('web', { clusterIP: '10.96.0.10', ports: [{ port: 80 }] }));
  await cluster.settled();
});
afterAll(() => cleanUp?.disposeAsync());

/** Gives the Service other endpoints; returns the change once it is in every kernel. */
async function change(pods: readonly string[], annotations: Record<string, string> = {}): Promise<ChangeRecord> {
  const slice = sliceManifest(lab, 'web', pods, [{ port: 8080 }]);
  cluster.source.put({ ...slice, metadata: { ...slice.metadata, ...{ annotations } } });
  await cluster.settled();
  const [newest] = await historyOf(cluster.admin, 1);
  if (!newest) throw new Error('there is no history');
  return newest;
}

describe('traces', () => {
  it('a change is one trace, from the source’s event to the last of three kernels', async ({ signal }) => {
    const triggeredAtMs = Date.now();
    await change(['pod-1a']);
    const made = await change(['pod-1a', 'pod-2a'], {
      'endpoints.kubernetes.io/last-change-trigger-time': new Date(triggeredAtMs).toISOString(),
      'tracing.k8s.io/traceparent': linked,
    });
    await collector.until(() => collector.trace(made.traceId).length > 0, signal);
    const trace = collector.trace(made.traceId);
    expect(faultsOf(trace)).toEqual([]);
    const [root] = trace.filter(({ parent }) => parent === '');
    expect(root).toMatchObject({ name: 'change', fromUs: triggeredAtMs * 1000 });
    expect(root?.links).toEqual([{ traceId: linked.slice(3, 35), id: linked.slice(36, 52) }]);
    const count = (name: string) => trace.filter((span) => span.name === name).length;
    for (const name of ['observe', 'pace', 'compute', 'commit', 'fan-out']) expect(count(name), name).toBe(1);
    expect(count('encode')).toBeGreaterThan(0);
    for (const name of ['deliver', 'receive', 'validate', 'program', 'read back']) expect(count(name), name).toBe(3);
    const nodes = trace
      .filter(({ service }) => service === 'octoplane-node')
      .map(({ resource }) => resource['k8s.node.name']);
    expect(new Set(nodes)).toEqual(new Set(['node-1', 'node-2', 'node-3']));
    for (const { toUs, fromUs } of trace.filter(({ name }) => name === 'program')) expect(toUs).toBeGreaterThan(fromUs);
  });

  it('a trace context that is none is left out, and counted', async () => {
    await change(['pod-2a'], { 'tracing.k8s.io/traceparent': '00-not-one' });
    const metrics = await controllerMetrics();
    expect(metrics).toContain('octoplane_bad_traceparents_total{source="lab"} 1');
  });
});

it('logs have the id of a change’s trace, the controller’s and the nodes’', async () => {
  const made = await change(['pod-1a', 'pod-2a', 'pod-3a']);
  const committed = linesOf(cluster.controller.logFile).filter(({ msg }) => msg === 'committed');
  expect(committed.find(({ trace }) => trace === made.traceId)).toMatchObject({ version: made.version?.sequence });
  for (const name of cluster.nodeNames) {
    const inPlace = linesOf(cluster.node(name).logFile).find(({ msg }) => msg === 'rule set in place');
    const [epoch, sequence] = String(inPlace?.['version']).split('.').map(Number);
    expect(epoch).toBe(made.version?.epoch);
    expect(inPlace?.['trace']).toBe(traceIdOf({ epoch: epoch ?? 0, sequence: sequence ?? 0 }));
  }
});

describe('Prometheus', () => {
  it('has every panel of the dashboard something to show, and every rule something to look at', async ({ signal }) => {
    const prometheus = cleanUp.use(
      new Prometheus({
        directory: join(lab.dir, 'prometheus'),
        targets: {
          'octoplane-controller': [`${lab.place('brain').addresses.IPv4}:${controllerHttpPort}`],
          'octoplane-node': lab.nodes.map(({ name }) => `${lab.place(name).addresses.IPv4}:${metricsPort}`),
        },
        port: prometheusPort,
        within: (act) => lab.within('brain', act),
      }),
    );
    const relay = cleanUp.use(await relayTo(lab.place('brain'), '127.0.0.1', prometheusPort));
    prometheus.address = relay.address;
    const sets = [['pod-1a'], ['pod-1a', 'pod-2a'], ['pod-2a'], ['pod-2a', 'pod-3a']];
    let turn = 0;
    const act = () => change(sets[turn++ % sets.length] ?? []);

    const dashboard = JSON.parse(readFileSync(dashboardFile, 'utf8')) as Dashboard;
    const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    expect(expressions.length).toBeGreaterThan(30);
    for (const expression of expressions) {
      // What Grafana puts in for a scrape interval of 200 ms and some.
      const samples = await prometheus.until(expression.replaceAll('$__rate_interval', '10s'), act, signal);
      expect(samples.length, expression).toBeGreaterThan(0);
    }
    for (const { alert, expr } of rulesOf())
      for (const metric of metricsIn(expr))
        expect((await prometheus.until(`count(${metric})`, act, signal)).length, `${alert}: ${metric}`).toBe(1);
    // All is well here: whatever is pending is pending for a moment, and nothing fires.
    expect(await prometheus.query('ALERTS{alertstate="firing"}')).toEqual([]);

    const ids = (await prometheus.exemplars('octoplane_convergence_seconds_bucket')).map(
      ({ trace_id: id }) => id ?? '',
    );
    expect(ids.length).toBeGreaterThan(0);
    for (const id of ids) await collector.until(() => collector.trace(id).length > 0, signal);
  });

  it('rules are sound, and each fires when it should and not before', () => {
    promtool('check', 'rules', rulesFile);
    promtool('test', 'rules', rulesFile.replace('.rules.yaml', '.rules.test.yaml'));
    const tested = readFileSync(rulesFile.replace('.rules.yaml', '.rules.test.yaml'), 'utf8');
    for (const { alert } of rulesOf()) expect(tested.split(`alertname: ${alert}`).length, alert).toBeGreaterThan(2);
  });
});

it('a collector that does not answer does not keep the controller from its end', async () => {
  const asked = collector.requests;
  collector.manner = 'silent';
  await change(['pod-3a']);
  await collector.until(() => collector.requests > asked);
  // Its exporter would wait ten minutes for the answer.
  expect(await cluster.controller.stop()).toBe(0);
});

const dashboardFile = fileURLToPath(new URL('../../deploy/grafana/octoplane.json', import.meta.url));

interface Dashboard {
  readonly panels: readonly { readonly targets?: readonly { readonly expr: string }[] }[];
}

/** As promtool reads them would be better, but it prints no rules. */
function rulesOf(): { readonly alert: string; readonly expr: string }[] {
  const text = readFileSync(rulesFile, 'utf8');
  return [...text.matchAll(/alert: (\w+)\n\s+expr: (.+)/g)].map(([, alert = '', expr = '']) => ({ alert, expr }));
}

const metricsIn = (expression: string): string[] => [...new Set(expression.match(/\b(?:octoplane_\w+|up)\b/g) ?? [])];

function controllerMetrics(): string {
  const brain = lab.place('brain').addresses.IPv4;
  return lab.within('brain', () =>
    execFileSync('curl', ['-s', `http://${brain}:${controllerHttpPort}/metrics`], { encoding: 'utf8' }),
  );
}

const linesOf = (file: string): Record<string, unknown>[] =>
  readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
