import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EtcdServer } from './etcd-server.ts';
import { Watcher } from './watcher.ts';
import { key, service, slice, Writer } from './writer.ts';

let server: EtcdServer;
beforeAll(async () => {
  server = await EtcdServer.start();
});
afterAll(() => server[Symbol.asyncDispose]());

const main = join(import.meta.dirname, '../../../services/cli/main.ts');
const octoplane = (input: string, ...args: string[]) => {
  const env = { PATH: process.env['PATH'], OCTOPLANE_ETCD: server.url };
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { input, encoding: 'utf8', env });
  return { status, stdout, stderr };
};
const documents = [service('web'), slice('web', '10.244.1.2')].map((each) => JSON.stringify(each)).join('\n---\n');

test('apply, get, delete: what a person does', () => {
  const created = 'Service default/web created\nEndpointSlice default/web-1 created\n';
  expect(octoplane(documents, 'apply', '-f', '-')).toEqual({ status: 0, stdout: created, stderr: '' });
  expect(octoplane(documents, 'apply', '-f', '-').stdout).toContain('Service default/web unchanged');
  expect(octoplane('', 'get', 'services').stdout).toMatch(
    /^NAMESPACE\/NAME {2}TYPE {7}CLUSTER-IP +PORTS\ndefault\/web +ClusterIP {2}10\.\d+\.\d+\.\d+ +80\/TCP\n$/,
  );
  expect(JSON.parse(octoplane('', 'get', 'endpointslice', 'web-1', '-o', 'json').stdout)).toMatchObject(
    slice('web', '10.244.1.2'),
  );
  expect(octoplane(documents, 'delete', '-f', '-').status).toBe(0);
  const again = octoplane(documents, 'delete', '-f', '-');
  expect(again).toMatchObject({ status: 1, stdout: '' });
  expect(again.stderr).toContain('Service default/web, EndpointSlice default/web-1: not in etcd');
});

test('one bad object: its place and what to change, and nothing is written', () => {
  const bad = `${documents}\n---\n${JSON.stringify(service('bad', 70_000))}`;
  const { status, stderr } = octoplane(bad, 'apply', '-f', '-');
  expect(status).toBe(1);
  expect(stderr).toMatch(/nothing was changed:\nstdin:5:\d+: Service default\/bad: spec\.ports\[0\]\.port: 70000/);
  expect(octoplane('', 'get', 'services').stdout).toBe('No Services.\n');
});

test('usage, and nobody there', () => {
  expect(octoplane('', 'get', 'pods')).toMatchObject({ status: 2 });
  expect(octoplane('', 'apply')).toMatchObject({ status: 2 });
  const { status, stderr } = octoplane('', 'get', 'nodes', '--etcd', 'http://127.0.0.1:1');
  expect({ status, lines: stderr.trim().split('\n').length }).toEqual({ status: 1, lines: 1 });
  expect(stderr).toContain('is --etcd right?');
});

test('register stays until it is told to end, and takes the endpoint with it', async () => {
  using writer = new Writer(server.url);
  await using watcher = new Watcher({ urls: server.url });
  const args = [
    'register',
    'default/web',
    '--address',
    '10.244.1.7',
    '--port',
    '8080',
    '--ttl',
    '2s',
    '--etcd',
    server.url,
  ];
  const register = spawn(process.execPath, [main, ...args], { stdio: 'ignore' });
  const ended = once(register, 'exit');
  const endpoint = 'EndpointSlice default/web-10-244-1-7-8080';
  await watcher.until(({ objects }) => objects.has(endpoint));
  // Two leases that nobody renews, one after the other: by then it has renewed its own.
  for (const name of ['one', 'two']) {
    await writer.put(key('Service', name), service(name), await writer.lease(2));
    await watcher.until(({ objects }) => objects.has(`Service default/${name}`));
    await watcher.until(({ objects }) => !objects.has(`Service default/${name}`));
  }
  expect(watcher.objects.has(endpoint)).toBe(true);
  register.kill();
  expect(await ended).toEqual([0, null]);
  await watcher.until(({ objects }) => !objects.has(endpoint));
});
