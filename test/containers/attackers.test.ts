import { join } from 'node:path';
import { Authority, type Credential, validForDays } from '@octoplane/cli/certs/authority.ts';
import type { StartedTestContainer } from 'testcontainers';
import { Wait } from 'testcontainers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { images } from '../support/containers/images.ts';
import { Stack } from '../support/containers/stack.ts';

let stack: Stack;
const script = join(import.meta.dirname, '../support/containers/attacker.mjs');

beforeAll(async () => {
  stack = await Stack.open('attackers', 1);
  await stack.up();
});
afterAll(async () => {
  await stack[Symbol.asyncDispose]();
});

/** What must hold whatever is tried: node-1 is itself, and a change still reaches its kernel. */
async function unaffected(): Promise<void> {
  const { nodes } = JSON.parse(await stack.octoplane('nodes', '-o', 'json'));
  expect(nodes).toMatchObject([{ name: 'node-1', state: expect.stringMatching(/CURRENT/) }]);
  await stack.container('backend-1').restart({ t: 15 });
  await stack.converged();
  expect([...(await stack.call('host-1')).keys()]).toEqual(['node-1']);
}

/** A daemon that says that it is node-1; resolves with what it says once it was turned away. */
async function pretender(
  certificates: string | null,
  made: { credential: Credential; ca: string } | null = null,
): Promise<string> {
  const tls = (name: string, content: string) => ({ target: `/etc/octoplane/tls/${name}`, content });
  const visitor = stack
    .visitor(images.NODE_IMAGE, certificates)
    .withAddedCapabilities('NET_ADMIN')
    .withCommand(['node', '--node-name=node-1', '--controller=controller.control:12090', '--driver=nftables'])
    .withCopyContentToContainer(
      made ? [tls('tls.crt', made.credential.cert), tls('tls.key', made.credential.key), tls('ca.crt', made.ca)] : [],
    )
    .withWaitStrategy(Wait.forLogMessage(/the connection to the controller is lost|cannot be reached|refused/i));
  await using container = await visitor.start();
  return await textOf(container);
}

async function textOf(container: StartedTestContainer): Promise<string> {
  const { output } = await container.exec(['true']);
  const bytes = await stack.engine.container.getById(container.getId()).logs({ stdout: true, stderr: true });
  return output + bytes.toString('utf8');
}

/** The authority of the stack: a thief has its key for the time of a test. */
async function authority(): Promise<Authority> {
  await using safe = await stack
    .visitor(images.NODE_IMAGE, 'certs-ca')
    .withEntrypoint(['sleep', 'infinity'])
    .withWaitStrategy(Wait.forSuccessfulCommand('true'))
    .start();
  const read = async (name: string) => (await safe.exec(['cat', `/etc/octoplane/tls/${name}`])).output;
  return Authority.load({ cert: await read('ca.crt'), key: await read('ca.key') });
}

const subject = { commonName: 'node-1', uris: ['octoplane://node/node-1'], use: 'client' } as const;

test('the certificate of another node: refused by name, and written down', async () => {
  expect(await pretender('certs-node-2')).toMatch(/PERMISSION_DENIED|does not|certificate/);
  const refusals = (await stack.log('controller')).filter(({ msg }) => msg === 'ending a stream');
  expect(JSON.stringify(refusals)).toContain('certificate');
  await unaffected();
});

test('an expired certificate, and one of another authority: no connection', async () => {
  const ours = await authority();
  const longAgo = { from: new Date(Date.now() - 2 * 86_400_000), to: new Date(Date.now() - 86_400_000) };
  const expired = { credential: await ours.issue(subject, longAgo), ca: ours.cert };
  const theirs = await Authority.create('theirs', validForDays(1, Date.now()));
  const forged = { credential: await theirs.issue(subject, validForDays(1, Date.now())), ca: ours.cert };
  for (const made of [expired, forged]) expect(await pretender(null, made)).toMatch(/lost|reached/);
  await unaffected();
});

test('garbage on both ports is cut off', async () => {
  for (const port of ['12090', '12091']) {
    const { output } = await attack('garbage', port);
    const { sent, closed } = JSON.parse(output);
    expect(closed).toBe(sent);
  }
  await unaffected();
});

test('10,000 connections that say nothing: 64 are kept for ten seconds, the others are closed at once, and nobody else notices', async () => {
  const before = await residentKiB();
  await using crowd = await attacker();
  const id = stack.engine.container.getById(crowd.getId());
  const running = stack.engine.container.exec(id, [
    'timeout',
    '60',
    'node',
    '/attacker.mjs',
    'crowd',
    'controller.control',
    '12090',
    '10000',
  ]);
  await expect.poll(refusals, { timeout: 60_000 }).toBeGreaterThan(9_000);
  expect((await residentKiB()) - before).toBeLessThan(100 * 1024);
  await unaffected();
  const said = (await stack.log('controller')).filter(
    ({ msg }) => msg === 'connections that did not say who they are were closed',
  );
  expect(said.length).toBeGreaterThan(0);
  expect(said.length).toBeLessThan(20);
  await running;
  // Silent ones among them went after their time.
  await expect.poll(() => refusals('silent')).toBeGreaterThan(0);
});

const attacker = () =>
  stack
    .visitor(images.NODE_IMAGE)
    .withEntrypoint(['sleep', 'infinity'])
    .withCopyFilesToContainer([{ source: script, target: '/attacker.mjs' }])
    .withUlimits({ nofile: { soft: 20_000, hard: 20_000 } })
    .withWaitStrategy(Wait.forSuccessfulCommand('true'))
    .start();

async function attack(what: string, port: string) {
  await using container = await attacker();
  return await container.exec(['node', '/attacker.mjs', what, 'controller.control', port]);
}

async function residentKiB(): Promise<number> {
  const { output } = await stack.exec('controller', 'cat', '/proc/1/status');
  return Number(/VmRSS:\s+(\d+) kB/.exec(output)?.[1]);
}

async function refusals(why = 'address'): Promise<number> {
  const { output } = await stack.exec(
    'controller',
    'node',
    '-e',
    "fetch('http://127.0.0.1:12091/metrics').then((r) => r.text()).then(console.log)",
  );
  return Number(new RegExp(`octoplane_connections_refused_total\\{why="${why}"\\} (\\d+)`).exec(output)?.[1] ?? 0);
}
