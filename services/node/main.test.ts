import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Plan_Kind } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { nodeName } from '@octoplane/model/keys.ts';
import { emptyRuleSet } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DriverModule, DriverName } from './drivers/driver.ts';
import { FakeDriver, FakeKernel, fakeModule } from './drivers/fake.ts';
import type { DriverRegistry, Loader } from './drivers/registry.ts';
import { type HttpService, listenHttp } from './health/http.ts';
import { runNode } from './main.ts';
import { defaultNodeOptions, type NodeOptions } from './options.ts';
import { arbitraryRuleSet } from './testing/arbitrary.ts';
import { Controller } from './testing/controller.ts';
import { repairFrame } from './testing/frames.ts';
import { silentLogger } from './testing/logger.ts';

let stateDir = '';
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'octoplane-main-'));
});
afterEach(() => rmSync(stateDir, { recursive: true }));

const options = (changed: Partial<NodeOptions> = {}): NodeOptions => ({
  ...defaultNodeOptions,
  controllers: ['127.0.0.1:1'],
  nodeName: nodeName('node-1'),
  driver: 'fake',
  stateDir,
  transport: { t: 'insecure' },
  healthzBindAddress: null,
  metricsBindAddress: null,
  ...changed,
});

/** Fake drivers under the names of real ones, each with a kernel of its own. */
function registryOf(kernels: Partial<Record<DriverName, FakeKernel>>): DriverRegistry {
  const loaders = Object.entries(kernels).map(([name, kernel]): [DriverName, Loader] => {
    const module: DriverModule = { ...fakeModule(kernel), name: name as DriverName };
    return [module.name, async () => module];
  });
  return new Map(loaders);
}

const runtime = (signal: AbortSignal, registry = registryOf({ fake: new FakeKernel() })) => ({
  logger: silentLogger,
  signal,
  registry,
  removeKubeProxy: async () => undefined,
  keeper: { install: async () => undefined, remove: async () => undefined },
});

describe('a start that cannot succeed says what to do', () => {
  const never = AbortSignal.timeout(20_000);

  it.each<[string, Partial<NodeOptions>, string, RegExp]>([
    ['no controller', { controllers: [] }, 'BAD_OPTION', /--controller/],
    ['a controller without a port', { controllers: ['brain'] }, 'BAD_OPTION', /HOST:PORT/],
    [
      'a remote controller without encryption',
      { controllers: ['10.0.0.1:12090'] },
      'BAD_OPTION',
      /--insecure-allow-remote/,
    ],
    ['a name that is none', { nodeName: nodeName('Node 1') }, 'BAD_OPTION', /--node-name/],
    [
      'certificates that are not there',
      { transport: { t: 'mtls', certFile: '/nowhere/c.pem', keyFile: '/nowhere/k.pem', caFile: '/nowhere/ca.pem' } },
      'TLS_FILES',
      /--tls-cert/,
    ],
    ['a driver that is not there', { driver: 'ipvs' }, 'NO_DRIVER', /ipvs/],
  ])('%s', async (_, changed, code, message) => {
    await expect(runNode(options(changed), runtime(never))).rejects.toMatchObject({
      name: 'StartError',
      exitCode: 1,
      code,
      message: expect.stringMatching(message),
    });
  });

  it('a state directory that is a file', async () => {
    const file = join(stateDir, 'file');
    writeFileSync(file, '');
    await expect(runNode(options({ stateDir: join(file, 'below') }), runtime(never))).rejects.toMatchObject({
      code: 'STATE_DIR',
    });
  });

  it('a port in use', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as AddressInfo;
    const healthzBindAddress = { host: '127.0.0.1', port };
    await expect(runNode(options({ healthzBindAddress }), runtime(never))).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      message: expect.stringContaining('--healthz-bind-address'),
    });
    await new Promise((resolve) => taken.close(resolve));
  });
});

describe('a node', () => {
  const [ruleSet = emptyRuleSet] = fc.sample(arbitraryRuleSet, { numRuns: 1, seed: 1 });

  /** Runs until the rule set is acknowledged and what follows it has settled, then stops. */
  async function programmed(
    changed: Partial<NodeOptions>,
    registry: DriverRegistry,
    meanwhile: () => Promise<void>,
  ): Promise<void> {
    const brain = await new Controller().listen();
    const stop = new AbortController();
    const running = runNode(options({ controllers: [brain.address], ...changed }), runtime(stop.signal, registry));
    try {
      const peer = await brain.next();
      await peer.hears('hello');
      peer.plan(Plan_Kind.SNAPSHOT);
      peer.says({ $case: 'frame', value: repairFrame(ruleSet, { to: { epoch: 7, sequence: 1 } }) });
      await peer.hears('ack');
      await meanwhile();
    } finally {
      stop.abort();
      await running;
      brain.stop();
    }
  }

  it('tells its health, its driver, its settings and its metrics', async () => {
    const [health, info] = [await free(), await free()];
    const addresses = { healthzBindAddress: health, metricsBindAddress: info };
    await programmed(addresses, registryOf({ fake: new FakeKernel() }), async () => {
      const get = async (port: number, path: string) => (await fetch(`http://127.0.0.1:${port}${path}`)).text();
      expect((await fetch(`http://127.0.0.1:${health.port}/healthz`)).status).toBe(200);
      expect(await get(info.port, '/proxyMode')).toBe('fake');
      expect(JSON.parse(await get(info.port, '/configz'))).toMatchObject({
        'octoplane.node': { nodeName: 'node-1', syncPeriodMs: 30_000 },
        'kubeproxy.config.k8s.io': {
          kind: 'KubeProxyConfiguration',
          hostnameOverride: 'node-1',
          mode: 'fake',
          iptables: { syncPeriod: '30s', masqueradeBit: 14 },
          conntrack: { maxPerCore: 32_768, tcpEstablishedTimeout: '86400s' },
        },
      });
      const metrics = await get(info.port, '/metrics');
      for (const line of [
        'octoplane_frames_total{answer="programmed"} 1',
        'octoplane_kernel_in_place 1',
        'octoplane_controller_connections_total{plan="snapshot"} 1',
        'octoplane_driver_figure{driver="fake",figure="transactions"} 1',
        'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1',
        'kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1',
        'kubeproxy_proxy_healthz_total{code="200"} 1',
        `kubeproxy_sync_proxy_rules_service_changes_total ${ruleSet.size}`,
      ])
        expect(metrics.split('\n')).toContain(line);
    });
  });

  it('removes the rules of the driver before, once its own are in place', async () => {
    const kernels = { nftables: new FakeKernel(), iptables: new FakeKernel() };
    await programmed({ driver: 'iptables' }, registryOf(kernels), async () => undefined);
    expect(kernels.iptables.entries.size).toBeGreaterThan(0);
    const visible = new FakeDriver(kernels.iptables);
    const brain = await new Controller().listen();
    const stop = new AbortController();
    const cleaned = Promise.withResolvers<number>();
    const registry = registryOf(kernels);
    const iptables = await registry.get('iptables')?.();
    const watched: DriverModule = {
      ...fakeModule(kernels.iptables),
      ...iptables,
      open: async () => {
        const driver = new FakeDriver(kernels.iptables);
        driver.cleanup = async () => {
          // What replaces it is there already.
          cleaned.resolve(kernels.nftables.entries.size);
          await visible.cleanup();
        };
        return driver;
      },
    };
    const running = runNode(
      options({ controllers: [brain.address], driver: 'nftables' }),
      runtime(stop.signal, new Map([...registry, ['iptables', async () => watched]])),
    );
    expect(await cleaned.promise).toBeGreaterThan(0);
    stop.abort();
    await running;
    brain.stop();
    expect(kernels.iptables.entries.size).toBe(0);
  });

  it('with --cleanup removes the rules of all drivers and ends', async () => {
    const kernels = { nftables: new FakeKernel(), iptables: new FakeKernel() };
    for (const kernel of Object.values(kernels)) for (const [key, entry] of ruleSet) kernel.entries.set(key, entry);
    await runNode(
      options({ cleanup: true, controllers: [] }),
      runtime(new AbortController().signal, registryOf(kernels)),
    );
    expect([kernels.nftables.entries.size, kernels.iptables.entries.size]).toEqual([0, 0]);
  });
});

async function free(): Promise<{ host: string; port: number }> {
  const server: HttpService = await listenHttp({ host: '127.0.0.1', port: 0 }, () => undefined);
  await server.close();
  return { host: '127.0.0.1', port: server.address.port };
}
