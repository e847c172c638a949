import { join } from 'node:path';
import { driverNames } from '@octoplane/node/drivers/driver.ts';
import { driverRegistry } from '@octoplane/node/drivers/registry.ts';
import { GenericContainer, Wait } from 'testcontainers';
import { expect, test } from 'vitest';
import { images } from '../support/containers/images.ts';
import { Stack } from '../support/containers/stack.ts';

const script = join(import.meta.dirname, '../support/containers/held.mjs');

const noCertificates = { OCTOPLANE_TLS_CERT: '', OCTOPLANE_TLS_KEY: '', OCTOPLANE_TLS_CA: '' };

/** What the node image says before it ends, with these capabilities and flags. */
async function saidBy(capabilities: readonly string[], ...flags: readonly string[]): Promise<string> {
  const container = new GenericContainer(images.NODE_IMAGE)
    .withNetworkMode('none')
    .withDroppedCapabilities('ALL')
    .withEntrypoint(['node', '/held.mjs', 'octoplane', 'node', '--controller=127.0.0.1:1'])
    .withCommand([...flags])
    .withCopyFilesToContainer([{ source: script, target: '/held.mjs' }])
    // The image names where certificates are; --insecure goes without.
    .withEnvironment(flags.includes('--insecure') ? noCertificates : {})
    .withWaitStrategy(Wait.forLogMessage(/^ended with /));
  await using started = await (capabilities.length > 0
    ? container.withAddedCapabilities(...capabilities)
    : container
  ).start();
  const stream = await started.logs();
  let said = '';
  for await (const line of stream) {
    said += line;
    if (/ended with /.test(said)) break;
  }
  return said;
}

test('a capability that is missing is named, whatever the driver', async () => {
  for (const driver of driverNames) {
    const needed = (await driverRegistry.get(driver)?.())?.capabilities ?? [];
    for (const missing of needed) {
      const rest = needed.filter((name) => name !== missing);
      const said = await saidBy(rest, `--driver=${driver}`, '--insecure');
      expect(said).toContain(`the ${driver} driver cannot run on this machine`);
      expect(said).toContain(`lacks CAP_${missing}: run as root, or grant it`);
      expect(said).toContain('ended with 1');
    }
  }
});

test('certificates that are not there are named, with the flags to look at', async () => {
  const said = await saidBy(['NET_ADMIN'], '--driver=nftables');
  expect(said).toContain('/etc/octoplane/tls/ca.crt');
  expect(said).toContain('check --tls-cert, --tls-key and --tls-ca');
});

test('an unknown driver is refused by Compose, with the name of what there is not', async () => {
  const stack = await Stack.open('unknown-driver', 1);
  const { code, output } = await stack.compose(['config', '-q'], { DRIVER: 'bogus' });
  expect(code).not.toBe(0);
  expect(output).toContain('deploy/compose/drivers/bogus.yml');
});

test('the compose file is clean with every driver', async () => {
  const stack = await Stack.open('drivers', 1);
  for (const driver of driverNames)
    expect(await stack.compose(['config', '-q'], { DRIVER: driver })).toEqual({ code: 0, output: '' });
});
