import { appendFileSync, chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Fault, KubeApiServer } from '../../../../test/support/kube-api/kube-api-server.ts';
import { KubeconfigFile } from '../../../../test/support/kube-api/kubeconfig-file.ts';
import { ManualClock } from '../../../../test/support/stub-nodes/manual-clock.ts';
import { TestAuthority } from '../../../../test/support/stub-nodes/pki.ts';
import { type Clock, systemClock } from '../../clock.ts';
import { KubeClient } from './kube-client.ts';
import { KubeconfigAccess } from './kubeconfig-access.ts';
import { pathOf } from './resource-path.ts';

const { signal } = new AbortController();
const services = { group: '', version: 'v1', plural: 'services' };
const leases = { group: 'coordination.k8s.io', version: 'v1', plural: 'leases' };
const service = (name: string, port = 80) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default' },
  spec: { ports: [{ port }] },
});

function clientOf(config: KubeconfigFile, clock: Clock = systemClock): KubeClient & Disposable {
  const access = new KubeconfigAccess({ context: '', file: config.path, clock });
  const client = new KubeClient({ access, clock, userAgent: 'octoplane-test' });
  return Object.assign(client, { [Symbol.dispose]: () => client.close() });
}

describe('objects', () => {
  const lease = (holder: string) => ({
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name: 'brain', namespace: 'kube-system' },
    spec: { holderIdentity: holder },
  });
  const all = pathOf(leases, { namespace: 'kube-system' });
  const one = pathOf(leases, { namespace: 'kube-system', name: 'brain' });

  test('are created, read, written when nobody else has, and deleted', async () => {
    await using server = await KubeApiServer.start();
    using config = new KubeconfigFile({ a: { server: server.url } });
    using client = clientOf(config);
    await expect(client.get(one, signal)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const created = await client.create(all, lease('a'), signal);
    await expect(client.create(all, lease('b'), signal)).rejects.toMatchObject({ code: 'EXISTS' });
    const taken = await client.update(one, { ...created, spec: { holderIdentity: 'b' } }, signal);
    await expect(client.update(one, { ...created, spec: { holderIdentity: 'c' } }, signal)).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    expect(await client.get(one, signal)).toEqual(taken);
    await client.delete(one, signal);
    await expect(client.delete(one, signal)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(server.complaints).toEqual([]);
  });

  test('their status is apart from the rest', async () => {
    await using server = await KubeApiServer.start();
    using config = new KubeconfigFile({ a: { server: server.url } });
    using client = clientOf(config);
    const exports = { group: 'multicluster.x-k8s.io', version: 'v1alpha1', plural: 'serviceexports' };
    const manifest = {
      apiVersion: 'multicluster.x-k8s.io/v1alpha1',
      kind: 'ServiceExport',
      metadata: { name: 'web', namespace: 'default' },
      status: { conditions: ['not taken'] },
    };
    const created = await client.create(pathOf(exports, { namespace: 'default' }), manifest, signal);
    expect(created['status']).toBeUndefined();
    const place = { namespace: 'default', name: 'web' };
    const status = { conditions: [{ type: 'Valid', status: 'True' }] };
    await client.patch(pathOf(exports, { ...place, subresource: 'status' }), { status }, signal);
    await client.patch(pathOf(exports, place), { status: null, metadata: { labels: { a: 'b' } } }, signal);
    expect(await client.get(pathOf(exports, place), signal)).toMatchObject({
      status,
      metadata: { labels: { a: 'b' } },
    });
    expect(server.complaints).toEqual([]);
  });

  test('a large answer comes compressed', async () => {
    await using server = await KubeApiServer.start({ pieceBytes: () => 1000 });
    using config = new KubeconfigFile({ a: { server: server.url } });
    using client = clientOf(config);
    for (let i = 0; i < 1000; i++) server.put('services', service(`s-${i}`));
    const list = await client.get(pathOf(services), signal);
    expect(list['items']).toHaveLength(1000);
  });
});

describe('what goes wrong is said by its code', () => {
  const faulty = async (fault: Fault | null, expected: object, options: object = {}) => {
    await using server = await KubeApiServer.start({ fault: () => fault, ...options });
    using config = new KubeconfigFile({ a: { server: server.url } });
    using client = clientOf(config);
    server.put('services', service('a'));
    await expect(client.get(pathOf(services), signal)).rejects.toMatchObject(expected);
  };
  test('429 with Retry-After', () =>
    faulty({ t: 'status', code: 429, retryAfterSeconds: 3 }, { code: 'BUSY', retryAfterMs: 3000 }));
  test('500', () => faulty({ t: 'status', code: 500 }, { code: 'SERVER' }));
  test('a connection that breaks', () => faulty({ t: 'reset' }, { code: 'UNREACHABLE' }));
  test('an answer that breaks off', () => faulty({ t: 'cut', at: 0.5 }, { code: 'UNREACHABLE' }));
  test('403', () => faulty(null, { code: 'FORBIDDEN', message: /rbac\.yaml/ }, { allows: () => false }));

  test('silence', async () => {
    const clock = new ManualClock();
    await using server = await KubeApiServer.start({ fault: () => ({ t: 'silent' }) });
    using config = new KubeconfigFile({ a: { server: server.url } });
    using client = clientOf(config, clock);
    const answer = client.json({ path: pathOf(services), silentMs: 5_000 }, signal);
    const heard = expect(answer).rejects.toMatchObject({ code: 'SILENT' });
    await until(() => server.requests.length === 1);
    clock.advance(5_000);
    clock.advance(5_000);
    await heard;
  });

  test('whoever gives up is heard', async () => {
    await using server = await KubeApiServer.start({ fault: () => ({ t: 'silent' }) });
    using config = new KubeconfigFile({ a: { server: server.url } });
    using client = clientOf(config);
    const stop = new AbortController();
    const answer = client.get(pathOf(services), stop.signal);
    const heard = expect(answer).rejects.toMatchObject({ code: 'ABORTED' });
    await until(() => server.requests.length === 1);
    stop.abort();
    await heard;
  });
});

describe('credentials', () => {
  let authority: TestAuthority;
  beforeAll(async () => {
    authority = await TestAuthority.create();
  });

  test('a token file that was renewed is read again when the old token is refused', async () => {
    await using server = await KubeApiServer.start({ tokens: new Set(['first']) });
    using config = new KubeconfigFile({ a: { server: server.url, user: { tokenFile: 'token' } } });
    using client = clientOf(config);
    writeFileSync(join(config.dir, 'token'), 'first\n');
    await client.get(pathOf(services), signal);
    server.options = { tokens: new Set(['second']) };
    await expect(client.get(pathOf(services), signal)).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    writeFileSync(join(config.dir, 'token'), 'second\n');
    await client.get(pathOf(services), signal);
  });

  test('a plugin is asked once, when what it gave expires, and when it is refused', async () => {
    const clock = new ManualClock();
    await using server = await KubeApiServer.start({ tokens: new Set(['t-1', 't-2']) });
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: './login', provideClusterInfo: true };
    using config = new KubeconfigFile({ a: { server: server.url, user: { exec } } });
    using client = clientOf(config, clock);
    const asked = join(config.dir, 'asked');
    const answerWith = (token: string, expires: number) => {
      const status = { token, expirationTimestamp: new Date(expires).toISOString() };
      const answer = JSON.stringify({ apiVersion: exec.apiVersion, kind: 'ExecCredential', status });
      const script = `#!/bin/sh\nprintf '%s\\n' "$KUBERNETES_EXEC_INFO" >> ${asked}\nprintf '%s' '${answer}'\n`;
      writeFileSync(join(config.dir, 'login'), script);
      chmodSync(join(config.dir, 'login'), 0o755);
    };
    const timesAsked = () => readFileSync(asked, 'utf8').trim().split('\n').length;
    appendFileSync(asked, '');
    const nowMs = () => clock.nowUs() / 1000;
    answerWith('t-1', nowMs() + 60_000);
    await client.get(pathOf(services), signal);
    await client.get(pathOf(services), signal);
    expect(timesAsked()).toBe(1);
    expect(JSON.parse(readFileSync(asked, 'utf8'))).toMatchObject({ spec: { cluster: { server: server.url } } });
    clock.advance(55_000);
    answerWith('t-2', nowMs() + 3_600_000);
    await client.get(pathOf(services), signal);
    expect(timesAsked()).toBe(2);
    server.options = { tokens: new Set(['t-3']) };
    answerWith('t-3', nowMs() + 3_600_000);
    await client.get(pathOf(services), signal);
    expect(timesAsked()).toBe(3);
  });

  test('a plugin that fails says why', async () => {
    const exec = {
      apiVersion: 'client.authentication.k8s.io/v1',
      command: 'sh',
      args: ['-c', 'echo no luck >&2; exit 3'],
    };
    using config = new KubeconfigFile({ a: { server: 'http://127.0.0.1:1', user: { exec } } });
    using client = clientOf(config);
    await expect(client.get(pathOf(services), signal)).rejects.toMatchObject({
      code: 'CREDENTIALS',
      message: 'the credential plugin sh ended with 3: no luck',
    });
  });

  test('a CA that was renewed is found without a restart, and a server of another CA is refused', async () => {
    const clock = new ManualClock();
    const next = await TestAuthority.create('octoplane second authority');
    await using server = await KubeApiServer.start({ tls: await authority.server() });
    using config = new KubeconfigFile({ a: { server: server.url, ca: authority.cert } });
    using client = clientOf(config, clock);
    await client.get(pathOf(services), signal);
    await server.kill();
    server.renewTls(await next.server());
    await server.listen();
    await expect(client.get(pathOf(services), signal)).rejects.toMatchObject({ code: 'UNREACHABLE' });
    config.write({ a: { server: server.url, ca: next.cert } });
    clock.advance(10_000);
    await client.get(pathOf(services), signal);
  });

  test('a connection that was closed while it was idle is no failure of a read, and one of a write', async () => {
    const faults: (Fault | null)[] = [null, { t: 'reset' }, null, { t: 'reset' }];
    await using server = await KubeApiServer.start({ fault: () => faults.shift() ?? null });
    using config = new KubeconfigFile({ a: { server: server.url } });
    using client = clientOf(config);
    await client.get(pathOf(services), signal);
    await client.get(pathOf(services), signal);
    const all = pathOf(services, { namespace: 'default' });
    await expect(client.create(all, service('a'), signal)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  test('one connection serves what comes one after another', async () => {
    await using server = await KubeApiServer.start({ tls: await authority.server() });
    using config = new KubeconfigFile({ a: { server: server.url, ca: authority.cert } });
    using client = clientOf(config);
    for (let i = 0; i < 5; i++) await client.get(pathOf(services), signal);
    expect(server.connections).toBe(1);
  });
});

/** What the server notes, it notes in turns of its own. */
async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setImmediate(resolve));
}
