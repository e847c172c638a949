import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Nack_Reason, Nack_Stage } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Endpoint, type Entry, endpointFlags } from '@octoplane/model/rule-set.ts';
import { afterEach, describe, expect, it } from 'vitest';
import { FakeClock } from '../testing/clock.ts';
import { received, repairFrame } from '../testing/frames.ts';
import { silentLogger } from '../testing/logger.ts';
import { CheckPorts } from './check-ports.ts';
import { type HttpService, listenHttp } from './http.ts';
import { nodeEndpoints } from './node-endpoints.ts';
import { ProxyHealth } from './proxy-health.ts';

const opened: { close(): unknown }[] = [];
afterEach(async () => {
  for (const service of opened.splice(0)) await service.close();
});

const syncPeriodMs = 30_000;
const frame = received(repairFrame(new Map(), { to: { epoch: 1, sequence: 1 } }));
const done = { changes: [], full: false, durationUs: 1, committedAtUs: 0 };
const refusal = { reason: Nack_Reason.KERNEL_REFUSED, message: '', entries: [] };

describe('/healthz and /livez', () => {
  async function endpoints() {
    const clock = new FakeClock();
    const health = new ProxyHealth(clock, syncPeriodMs);
    const answers: string[] = [];
    const server: HttpService = await listenHttp(
      { host: '127.0.0.1', port: 0 },
      nodeEndpoints({
        health: () => health.health,
        clock,
        answered: (endpoint, code) => answers.push(`${endpoint} ${code}`),
      }),
    );
    opened.push(server);
    const get = (path: string) => fetch(`http://127.0.0.1:${server.address.port}${path}`);
    const codes = async () => [(await get('/healthz')).status, (await get('/livez')).status];
    return { clock, health, get, codes, answers };
  }

  it('a daemon that has programmed nothing yet is alive, and not to be sent traffic', async () => {
    const { health, codes, answers } = await endpoints();
    expect(await codes()).toEqual([503, 200]);
    health.observer.programmed(done);
    expect(await codes()).toEqual([200, 200]);
    expect(answers).toEqual(['healthz 503', 'livez 200', 'healthz 200', 'livez 200']);
  });

  it('fail when a frame has been pending for twice the sync period, and recover with it', async () => {
    const { clock, health, codes } = await endpoints();
    health.observer.programmed(done);
    health.observer.queued(frame);
    health.observer.refused({ ...refusal, stage: Nack_Stage.APPLY });
    clock.advance(2 * syncPeriodMs - 1);
    health.observer.queued(frame);
    expect(await codes()).toEqual([200, 200]);
    clock.advance(1);
    expect(await codes()).toEqual([503, 503]);
    health.observer.programmed(done);
    expect(await codes()).toEqual([200, 200]);
  });

  it('do not fail for a frame that was refused before the kernel was touched', async () => {
    const { clock, health, codes } = await endpoints();
    health.observer.programmed(done);
    health.observer.queued(frame);
    health.observer.refused({ ...refusal, stage: Nack_Stage.VALIDATE });
    clock.advance(10 * syncPeriodMs);
    expect(await codes()).toEqual([200, 200]);
  });

  it('fail while the kernel is unknown for too long', async () => {
    const { clock, health, codes } = await endpoints();
    health.observer.kernelState({ t: 'in-place' });
    health.observer.kernelState({ t: 'unknown', why: 'test' });
    clock.advance(2 * syncPeriodMs);
    expect(await codes()).toEqual([503, 503]);
    health.observer.kernelState({ t: 'in-place' });
    expect(await codes()).toEqual([200, 200]);
  });

  it('/healthz alone fails on a node that is leaving', async () => {
    const { health, codes, get } = await endpoints();
    health.observer.programmed(done);
    health.nodeState({ leaving: true });
    expect(await codes()).toEqual([503, 200]);
    expect(await (await get('/healthz')).json()).toMatchObject({ nodeEligible: false });
    health.nodeState({ leaving: false });
    expect(await codes()).toEqual([200, 200]);
    expect(await (await get('/healthz')).text()).toBe(
      '{"lastUpdated": "2026-01-01 00:00:00.000 +0000 UTC","currentTime": "2026-01-01 00:00:00.000 +0000 UTC", "nodeEligible": true}',
    );
    expect((await get('/elsewhere')).status).toBe(404);
  });
});

describe('health check node ports', () => {
  const { cluster, local, terminating, draining } = endpointFlags;

  function entry(port: number, healthCheckNodePort: number, endpoints: readonly Endpoint[]): Entry {
    return {
      key: `default/web:${port}/TCP` as ServicePortKey,
      spec: {
        clusterIps: ['10.96.0.1'],
        externalIps: [],
        loadBalancerIps: ['203.0.113.1'],
        nodePort: 30_000 + port,
        internalPolicy: 'Cluster',
        externalPolicy: 'Local',
        affinityTimeoutSeconds: 0,
        sourceRanges: [],
        healthCheckNodePort,
        usableFamilies: 1,
      },
      endpoints,
    };
  }

  function ports(proxyHealthy = () => true) {
    const clashes: string[] = [];
    const checkPorts = new CheckPorts({
      logger: silentLogger,
      hosts: () => ['127.0.0.1'],
      proxyHealthy,
      onClash: (service) => clashes.push(service),
    });
    opened.push(checkPorts);
    return { checkPorts, clashes };
  }

  const change = (before: Entry | null, after: Entry | null) => {
    const key = (after ?? before)?.key ?? ('' as ServicePortKey);
    return { key, before, after };
  };

  it('count ready local addresses once, and answer on any path as kube-proxy does', async () => {
    const port = await freePort();
    let healthy = true;
    const { checkPorts } = ports(() => healthy);
    const http = entry(80, port, [
      { ip: '10.244.1.1', port: 80, flags: cluster | local },
      { ip: '10.244.1.2', port: 80, flags: local },
      { ip: '10.244.1.3', port: 80, flags: local | terminating },
      { ip: '10.244.1.4', port: 80, flags: draining },
      { ip: '10.244.2.1', port: 80, flags: cluster },
    ]);
    const https = entry(443, port, [{ ip: '10.244.1.1', port: 443, flags: local }]);
    await checkPorts.update([change(null, http), change(null, https)]);
    const answer = await fetch(`http://127.0.0.1:${port}/any/path?at=all`);
    expect(answer.status).toBe(200);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'content-type': 'application/json',
      'x-content-type-options': 'nosniff',
      'x-load-balancing-endpoint-weight': '2',
    });
    expect(await answer.text()).toBe(
      '{\n\t"service": {\n\t\t"namespace": "default",\n\t\t"name": "web"\n\t},\n\t"localEndpoints": 2,\n\t"serviceProxyHealthy": true\n}',
    );
    healthy = false;
    expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(503);
    healthy = true;
    await checkPorts.update([
      change(http, entry(80, port, [{ ip: '10.244.1.3', port: 80, flags: local | terminating }])),
      change(https, null),
    ]);
    const none = await fetch(`http://127.0.0.1:${port}/`);
    expect([none.status, none.headers.get('x-load-balancing-endpoint-weight')]).toEqual([503, '0']);
  });

  it('move with the Service, and close with it', async () => {
    const [first, second] = [await freePort(), await freePort()];
    const { checkPorts } = ports();
    const before = entry(80, first, []);
    const after = entry(80, second, []);
    await checkPorts.update([change(null, before)]);
    await checkPorts.update([change(before, after)]);
    await expect(fetch(`http://127.0.0.1:${first}/`)).rejects.toThrow();
    expect((await fetch(`http://127.0.0.1:${second}/`)).status).toBe(503);
    await checkPorts.update([change(after, entry(80, 0, []))]);
    await expect(fetch(`http://127.0.0.1:${second}/`)).rejects.toThrow();
  });

  it('that clash are reported, and tried again with the next change', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as AddressInfo;
    const { checkPorts, clashes } = ports();
    const before = entry(80, port, []);
    await checkPorts.update([change(null, before)]);
    expect(clashes).toEqual(['default/web']);
    expect(checkPorts.failing).toBe(1);
    await new Promise((resolve) => taken.close(resolve));
    await checkPorts.update([change(before, entry(80, port, [{ ip: '10.244.1.1', port: 80, flags: local }]))]);
    expect(checkPorts.failing).toBe(0);
    expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(200);
  });
});

async function freePort(): Promise<number> {
  const server = await listenHttp({ host: '127.0.0.1', port: 0 }, () => undefined);
  await server.close();
  return server.address.port;
}
