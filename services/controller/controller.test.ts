import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import { type ChannelCredentials, credentials, type ServiceError, status } from '@grpc/grpc-js';
import type { Credential } from '@octoplane/cli/certs/authority.ts';
import {
  AdminServiceClient,
  type GetStatusRequest,
  type GetStatusResponse,
  LateNode_Reason,
  type ListHistoryRequest,
  type ListHistoryResponse,
  type ListNodesRequest,
  type ListNodesResponse,
  type ListServicesRequest,
  type ListServicesResponse,
  WaitRequest,
  type WaitResponse,
  type WatchResponse,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Nack_Reason, Plan_Kind, StreamRequest } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { nodeName } from '@octoplane/model/keys.ts';
import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import { controllerOptions } from '../../test/support/stub-nodes/controller-options.ts';
import { TestAuthority, writeTlsFiles } from '../../test/support/stub-nodes/pki.ts';
import { StubClient } from '../../test/support/stub-nodes/stub-client.ts';
import { StubNode } from '../../test/support/stub-nodes/stub-node.ts';
import { runController } from './main.ts';
import type { ControllerOptions, Security } from './options.ts';

const cleanUps: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

interface Running {
  readonly grpc: string;
  readonly http: string;
  readonly directory: string;
  stop(): Promise<void>;
}

const service = (name: string, ip: string, endpoints: readonly string[]) =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'List',
    items: [
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name, namespace: 'default' },
        spec: {
          type: 'ClusterIP',
          clusterIP: ip,
          clusterIPs: [ip],
          ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
        },
      },
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name: `${name}-1`, namespace: 'default', labels: { 'kubernetes.io/service-name': name } },
        addressType: 'IPv4',
        ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
        endpoints: endpoints.map((address) => ({ addresses: [address], conditions: { ready: true } })),
      },
    ],
  });

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'octoplane-controller-'));
  cleanUps.push(() => rmSync(directory, { recursive: true }));
  return directory;
}

function put(directory: string, name: string, text: string): void {
  writeFileSync(join(directory, `.${name}.new`), text);
  renameSync(join(directory, `.${name}.new`), join(directory, name));
}

const optionsFor = (directory: string, security: Security, stateDir: string | null = null): ControllerOptions =>
  controllerOptions({
    sources: [{ name: 'file', kind: 'file', target: directory }],
    serviceCidrs: [{ ip: '10.96.0.0', length: 12 }],
    stateDir,
    security,
  });

async function start(
  directory: string,
  security: Security = { t: 'insecure', allowRemote: false },
  stateDir: string | null = null,
): Promise<Running> {
  const stopped = new AbortController();
  const listening = Promise.withResolvers<{ grpc: number; http: number }>();
  const run = runController(optionsFor(directory, security, stateDir), {
    logger: pino({ level: 'silent' }),
    signal: stopped.signal,
    onListening: listening.resolve,
  });
  run.catch(listening.reject);
  const ports = await listening.promise;
  const stop = async () => {
    stopped.abort();
    await run;
  };
  cleanUps.push(stop);
  return { grpc: `127.0.0.1:${ports.grpc}`, http: `http://127.0.0.1:${ports.http}`, directory, stop };
}

interface Connecting {
  readonly node: StubNode;
  readonly address: string;
  readonly using?: ChannelCredentials;
  readonly refuses?: boolean;
}

/** A stub that tells when it has answered, and why its stream ended. */
function connect({ node, address, using = credentials.createInsecure() }: Connecting) {
  let heard = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<ServiceError>();
  const hear = () => {
    heard.resolve();
    heard = Promise.withResolvers();
  };
  const client = new StubClient({
    node,
    address,
    credentials: using,
    onAnswer: hear,
    onPlan: hear,
    onEnd: ended.resolve,
  });
  cleanUps.push(() => client.cut());
  client.connect();
  return {
    client,
    ended: ended.promise,
    async until(condition: () => boolean): Promise<void> {
      while (!condition()) await heard.promise;
    },
  };
}

function admin(address: string, using: ChannelCredentials = credentials.createInsecure()): AdminServiceClient {
  const client = new AdminServiceClient(address, using);
  cleanUps.push(() => client.close());
  return client;
}

async function waitFor(client: AdminServiceClient, request: Partial<WaitRequest> = {}) {
  const reports: WaitResponse[] = [];
  const call = client.wait({ ...WaitRequest.create(), ...request });
  for await (const report of call as AsyncIterable<WaitResponse>) reports.push(report);
  return reports;
}

type Unary<Request, Response> = (
  request: Request,
  done: (error: ServiceError | null, response: Response) => void,
) => unknown;

const ask = <Request, Response>(method: Unary<Request, Response>, request: Request): Promise<Response> =>
  new Promise((resolve, reject) => method(request, (error, response) => (error ? reject(error) : resolve(response))));

describe('a controller with a directory of manifests', () => {
  test('a node gets a snapshot, then deltas, and wait tells when it has them', async () => {
    const directory = temporaryDirectory();
    put(directory, 'web.json', service('web', '10.96.0.10', ['10.244.1.2']));
    const controller = await start(directory);
    const node = new StubNode({ name: nodeName('node-1') });
    const stub = connect({ node, address: controller.grpc });
    await stub.until(() => node.frames === 1);
    expect(node.plans.map(({ kind }) => kind)).toEqual([Plan_Kind.SNAPSHOT]);
    expect([...node.held.ruleSet.keys()]).toEqual(['default/web:80/TCP']);

    put(directory, 'web.json', service('web', '10.96.0.10', ['10.244.1.2', '10.244.2.2']));
    const before = node.receivedBytes;
    await stub.until(() => node.frames === 2);
    expect(node.held.ruleSet.get('default/web:80/TCP' as never)?.endpoints.map(({ ip }) => ip)).toEqual([
      '10.244.1.2',
      '10.244.2.2',
    ]);
    expect(node.receivedBytes - before).toBeLessThanOrEqual(120);

    const client = admin(controller.grpc);
    const reports = await waitFor(client, { service: 'default/web' });
    expect(reports.at(-1)).toMatchObject({ done: true, nodes: 1, programmed: 1, late: [] });
    const { nodes } = await ask<ListNodesRequest, ListNodesResponse>(
      (request, done) => client.listNodes(request, done),
      { selectors: ['state=current'] },
    );
    expect(nodes.map(({ name }) => name)).toEqual(['node-1']);
    const { services } = await ask<ListServicesRequest, ListServicesResponse>(
      (request, done) => client.listServices(request, done),
      { service: 'default/web' },
    );
    expect(services[0]).toMatchObject({ nodesProgrammed: 1, nodesTotal: 1, clusterIps: ['10.96.0.10'] });
    expect(services[0]?.ports[0]).toMatchObject({ endpointsReady: 2, endpointsTotal: 2 });
    const { changes } = await ask<ListHistoryRequest, ListHistoryResponse>(
      (request, done) => client.listHistory(request, done),
      { limit: 0, service: 'default/web' },
    );
    expect(changes[0]?.convergence).toMatchObject({ nodes: 1, programmed: 1, slowest: 'node-1' });
    expect(changes[0]?.causes[0]?.object).toBe('EndpointSlice default/web-1');
    const answer = await ask<GetStatusRequest, GetStatusResponse>(
      (request, done) => client.getStatus(request, done),
      {},
    );
    expect(answer).toMatchObject({ services: 1, servicePorts: 1, endpoints: 2, nodesCurrent: 1 });
  });

  test('after a restart of the controller nothing is sent to a node that is up to date', async () => {
    const directory = temporaryDirectory();
    put(directory, 'web.json', service('web', '10.96.0.10', ['10.244.1.2']));
    const first = await start(directory);
    const node = new StubNode({ name: nodeName('node-1') });
    const stub = connect({ node, address: first.grpc });
    await stub.until(() => node.frames === 1);
    await first.stop();
    expect((await stub.ended).code).toBe(status.OK);
    expect(node.movedAway).toBe(true);

    const second = await start(directory);
    const again = connect({ node, address: second.grpc });
    await again.until(() => node.plans.length === 2);
    expect(node.plans[1]?.kind).toBe(Plan_Kind.UP_TO_DATE);
    expect(node.frames).toBe(0);
    put(directory, 'web.json', service('web', '10.96.0.10', ['10.244.1.2', '10.244.1.3']));
    await again.until(() => node.frames === 1);
    expect(node.held.ruleSet.get('default/web:80/TCP' as never)?.endpoints).toHaveLength(2);
  });

  test('wait names a node that refuses an entry, and why', async () => {
    const directory = temporaryDirectory();
    const controller = await start(directory);
    const refuse = ({ key }: { key: string }) => (key.includes('odd') ? Nack_Reason.CAPACITY : null);
    const node = new StubNode({ name: nodeName('node-1'), refuse });
    const stub = connect({ node, address: controller.grpc });
    await stub.until(() => node.frames === 1);
    put(directory, 'odd.json', service('odd', '10.96.0.11', ['10.244.1.2']));
    put(directory, 'even.json', service('even', '10.96.0.12', ['10.244.1.2']));
    await stub.until(() => node.held.ruleSet.has('default/even:80/TCP' as never));
    const client = admin(controller.grpc);
    expect((await waitFor(client, { service: 'default/even' })).at(-1)?.done).toBe(true);
    const call = client.wait(WaitRequest.create({ service: 'default/odd' }));
    const report = await new Promise<WaitResponse>((resolve) => call.once('data', resolve));
    call.on('error', () => undefined);
    call.cancel();
    expect(report).toMatchObject({ done: false, nodes: 1, programmed: 0 });
    expect(report.late[0]).toMatchObject({ name: 'node-1', why: 'refused default/odd:80/TCP: no room' });
    expect(report.late[0]?.reason).toBe(LateNode_Reason.REFUSED);
  });

  test('after a restart, wait counts the nodes that are not back yet, and names them', async () => {
    const [directory, stateDir] = [temporaryDirectory(), temporaryDirectory()];
    put(directory, 'web.json', service('web', '10.96.0.10', ['10.244.1.2']));
    const [one, two] = ['node-1', 'node-2'].map((name) => new StubNode({ name: nodeName(name) }));
    if (!one || !two) throw new Error('two nodes');
    const first = await start(directory, { t: 'insecure', allowRemote: false }, stateDir);
    for (const node of [one, two]) await connect({ node, address: first.grpc }).until(() => node.frames === 1);
    await first.stop();

    const second = await start(directory, { t: 'insecure', allowRemote: false }, stateDir);
    await connect({ node: one, address: second.grpc }).until(() => one.plans.length === 2);
    const reports = admin(second.grpc).wait(WaitRequest.create({ service: 'default/web' }));
    const seen: WaitResponse[] = [];
    for await (const report of reports as AsyncIterable<WaitResponse>) {
      seen.push(report);
      if (seen.length > 1) continue;
      expect(report).toMatchObject({ nodes: 2, programmed: 1, done: false });
      expect(report.late).toMatchObject([{ name: 'node-2', reason: LateNode_Reason.ABSENT }]);
      connect({ node: two, address: second.grpc });
    }
    expect(seen.at(-1)).toMatchObject({ nodes: 2, programmed: 2, done: true });
  });

  test('watch answers at once, and when there is something new', async () => {
    const directory = temporaryDirectory();
    const controller = await start(directory);
    const node = new StubNode({ name: nodeName('node-1') });
    await connect({ node, address: controller.grpc }).until(() => node.plans.length === 1);
    const call = admin(controller.grpc).watch({ intervalMs: 1 });
    const heads: number[] = [];
    call.on('error', () => undefined);
    for await (const { head } of call as AsyncIterable<WatchResponse>) {
      heads.push(head?.sequence ?? 0);
      if (heads.length === 1) put(directory, 'web.json', service('web', '10.96.0.10', ['10.244.1.2']));
      if (head?.sequence === 2) break;
    }
    expect([heads[0], heads.at(-1)]).toEqual([1, 2]);
  });

  test('serves health, readiness and metrics', async () => {
    const controller = await start(temporaryDirectory());
    const node = new StubNode({ name: nodeName('node-1') });
    const stub = connect({ node, address: controller.grpc });
    await stub.until(() => node.plans.length === 1);
    for (const path of ['healthz', 'livez', 'readyz'])
      expect((await fetch(`${controller.http}/${path}`)).status).toBe(200);
    const metrics = await (await fetch(`${controller.http}/metrics`)).text();
    expect(metrics).toContain('octoplane_source_synced{source="file"} 1');
  });

  test.each([
    ['a port in use', 'PORT_IN_USE', (running: Running) => ({ listen: running.grpc })],
    ['an HTTP port in use', 'PORT_IN_USE', (running: Running) => ({ http: running.http.slice('http://'.length) })],
    ['an address of another machine', 'LISTEN_ADDRESS', () => ({ http: '192.0.2.1:0' })],
    [
      'a directory that is missing',
      'SOURCE',
      () => ({ sources: [{ name: 'x', kind: 'file', target: '/nowhere/at/all' } as const] }),
    ],
    ['a state directory that is a file', 'STATE_DIR', () => ({ stateDir: '/dev/null/x' })],
    [
      'certificates that are missing',
      'TLS_FILES',
      () => ({ security: { t: 'mtls', files: { cert: '/nowhere/c', key: '/nowhere/k', ca: '/nowhere/a' } } as const }),
    ],
  ])('does not start with %s, and says what to do', async (_what, code, wrong) => {
    const running = await start(temporaryDirectory());
    const { signal } = new AbortController();
    const options = { ...optionsFor(temporaryDirectory(), { t: 'insecure', allowRemote: false }), ...wrong(running) };
    const failed = runController(options, { logger: pino({ level: 'silent' }), signal });
    await expect(failed).rejects.toMatchObject({ name: 'StartError', code });
  });

  test('a Service keeps the address that it was given', async () => {
    const directory = temporaryDirectory();
    const stateDir = temporaryDirectory();
    const unnamed = JSON.parse(service('web', '', []));
    unnamed.items[0].spec = { ports: [{ name: 'http', port: 80 }] };
    put(directory, 'web.json', JSON.stringify(unnamed));
    const addressGiven = async () => {
      const controller = await start(directory, { t: 'insecure', allowRemote: false }, stateDir);
      const node = new StubNode({ name: nodeName('node-1') });
      const stub = connect({ node, address: controller.grpc });
      await stub.until(() => node.frames === 1);
      await controller.stop();
      return node.held.ruleSet.get('default/web:80/TCP' as never)?.spec.clusterIps;
    };
    const first = await addressGiven();
    expect(first).toHaveLength(1);
    expect(readFileSync(join(stateDir, 'allocations.json'), 'utf8')).toContain(first?.[0]);
    expect(await addressGiven()).toEqual(first);
  });

  test('shuts down within its 5 s while somebody waits', async () => {
    const controller = await start(temporaryDirectory());
    const waiting = waitFor(admin(controller.grpc));
    waiting.catch(() => undefined);
    await controller.stop();
    await expect(waiting).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });
});

describe('mutual TLS', async () => {
  const authority = await TestAuthority.create();
  const using = ({ cert, key }: Credential) =>
    credentials.createSsl(Buffer.from(authority.cert), Buffer.from(key), Buffer.from(cert));

  async function startTls() {
    const directory = temporaryDirectory();
    const files = writeTlsFiles(join(directory, 'tls'), await authority.server(), authority.cert);
    return { controller: await start(directory, { t: 'mtls', files }), files };
  }

  test('a node speaks for the name in its certificate, and for no other', async () => {
    const { controller } = await startTls();
    const node = new StubNode({ name: nodeName('node-1') });
    const stub = connect({ node, address: controller.grpc, using: using(await authority.node('node-1')) });
    await stub.until(() => node.frames === 1);
    const thief = connect({
      node: new StubNode({ name: nodeName('node-1') }),
      address: controller.grpc,
      using: using(await authority.node('node-2')),
    });
    expect(await thief.ended).toMatchObject({ code: status.PERMISSION_DENIED });
    expect(stub.client.isConnected).toBe(true);
    const kubelet = await authority.issue({ commonName: 'system:node:node-3', organisation: 'system:nodes' });
    const third = new StubNode({ name: nodeName('node-3') });
    await connect({ node: third, address: controller.grpc, using: using(kubelet) }).until(() => third.frames === 1);
  });

  test('only an admin certificate may ask', async () => {
    const { controller } = await startTls();
    const request = { selectors: [] };
    const listNodes = (credential: Credential) => {
      const client = admin(controller.grpc, using(credential));
      return ask<ListNodesRequest, ListNodesResponse>((message, done) => client.listNodes(message, done), request);
    };
    await expect(listNodes(await authority.node('node-1'))).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    expect((await listNodes(await authority.admin('ann'))).nodes).toEqual([]);
    const byOrganisation = await authority.issue({ commonName: 'bob', organisation: 'octoplane:admins' });
    expect((await listNodes(byOrganisation)).nodes).toEqual([]);
  });

  test('a peer without a certificate of the authority gets nowhere', async () => {
    const { controller } = await startTls();
    const stranger = await (await TestAuthority.create()).node('node-1');
    const stub = connect({
      node: new StubNode({ name: nodeName('node-1') }),
      address: controller.grpc,
      using: using(stranger),
    });
    expect(await stub.ended).toMatchObject({ code: status.UNAVAILABLE });
  });

  test('new certificates are taken without a restart, and a broken set is not', async () => {
    const { controller, files } = await startTls();
    writeFileSync(files.cert, 'torn');
    const other = await TestAuthority.create();
    const serial = async () => {
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      const { host, port } = { host: '127.0.0.1', port: Number(controller.grpc.split(':')[1]) };
      const socket = tlsConnect({ host, port, rejectUnauthorized: false, ALPNProtocols: ['h2'] }, () => {
        resolve(String(socket.getPeerCertificate().issuer.CN));
        socket.destroy();
      });
      socket.on('error', reject);
      return promise;
    };
    expect(await serial()).toBe('octoplane test authority');
    const renewed = await TestAuthority.create('the next authority');
    writeTlsFiles(join(files.cert, '..'), await renewed.server(), renewed.cert + other.cert);
    const node = new StubNode({ name: nodeName('node-9') });
    const { cert, key } = await other.node('node-9');
    // Until the files have been read again the handshake fails; each end of a stream is the event to try again on.
    for (;;) {
      const stub = connect({
        node,
        address: controller.grpc,
        using: credentials.createSsl(Buffer.from(renewed.cert), Buffer.from(key), Buffer.from(cert)),
      });
      const first = await Promise.race([stub.until(() => node.frames === 1).then(() => 'served'), stub.ended]);
      if (first === 'served') break;
    }
    expect(await serial()).toBe('the next authority');
  });
});

describe('a peer that lies', () => {
  const hello = (nodeNameText: string, filler = '') =>
    Buffer.from(
      StreamRequest.encode({
        message: {
          $case: 'hello',
          value: {
            nodeName: nodeNameText,
            release: filler,
            schema: 1,
            zone: '',
            driver: '',
            held: undefined,
            digest: Buffer.alloc(0),
            inputs: [],
            bootId: '',
            cluster: '',
          },
        },
      }).finish(),
    );
  const ack = (sequence: number) => (epoch: number) =>
    Buffer.from(
      StreamRequest.encode({
        message: {
          $case: 'ack',
          value: {
            epoch,
            received: sequence,
            validated: sequence,
            programmed: sequence,
            digest: Buffer.alloc(8),
            durations: undefined,
          },
        },
      }).finish(),
    );

  test.each([
    ['garbage', () => Buffer.from('ffffffffffffff', 'hex'), status.INVALID_ARGUMENT],
    ['nothing', () => Buffer.alloc(0), status.UNIMPLEMENTED],
    ['an oversized Hello', () => hello('node-2', 'x'.repeat(70_000)), status.INVALID_ARGUMENT],
    ['a Hello without a name', () => hello(''), status.INVALID_ARGUMENT],
    ['a second Hello', () => hello('node-1'), status.FAILED_PRECONDITION],
    ['an ack of the future', ack(99), status.FAILED_PRECONDITION],
    ['a number beyond 2^53', ack(2 ** 53 - 1), status.FAILED_PRECONDITION],
    ['2 MiB', () => Buffer.alloc(2 * 1024 * 1024), status.RESOURCE_EXHAUSTED],
  ])('is cut off after %s', async (_what, lie, code) => {
    const controller = await start(temporaryDirectory());
    const node = new StubNode({ name: nodeName('node-1') });
    const stub = connect({ node, address: controller.grpc });
    await stub.until(() => node.frames === 1);
    stub.client.sendBytes(lie(node.version?.epoch ?? 0));
    expect(await stub.ended).toMatchObject({ code });
  });

  test('the newer of two streams with one name wins', async () => {
    const controller = await start(temporaryDirectory());
    const node = new StubNode({ name: nodeName('node-1') });
    const older = connect({ node, address: controller.grpc });
    await older.until(() => node.frames === 1);
    const twin = new StubNode({ name: nodeName('node-1') });
    const newer = connect({ node: twin, address: controller.grpc });
    expect(await older.ended).toMatchObject({ code: status.ABORTED });
    await newer.until(() => twin.frames === 1);
  });
});
