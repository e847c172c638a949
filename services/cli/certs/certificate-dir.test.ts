import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { identitiesOf } from '@octoplane/controller/tls/identity.ts';
import { afterAll, beforeEach, expect, test } from 'vitest';
import type { Subject } from './authority.ts';
import { CertificateDir, type Issued } from './certificate-dir.ts';

const all = mkdtempSync(join(tmpdir(), 'octoplane-certs-'));
afterAll(() => rmSync(all, { recursive: true }));

const dayMs = 86_400_000;
let nowMs = Date.now();
let dir = '';
let certs = new CertificateDir(dir);
beforeEach(() => {
  nowMs = Date.now();
  dir = mkdtempSync(join(all, 'x-'));
  certs = new CertificateDir(dir, () => nowMs);
});

const issuing = { days: 90, renew: false, owner: null } as const;
const node = (name: string): Subject => ({ commonName: name, uris: [`octoplane://node/${name}`], use: 'client' });
const controller = (...hosts: string[]): Subject => ({ commonName: 'octoplane controller', hosts, use: 'server' });
const certificate = (who: string) => new X509Certificate(readFileSync(join(dir, who, 'tls.crt')));
const outcomes = (...issued: Issued[]) => issued.map(({ outcome }) => outcome);

test('a node is what the controller reads from its certificate, and is signed by the authority', async () => {
  await certs.authority(365);
  await certs.issue('node/node-1', node('node-1'), issuing);
  const held = certificate('node/node-1');
  expect(identitiesOf(held.toLegacyObject())).toEqual([{ t: 'node', name: 'node-1' }]);
  const authority = new X509Certificate(readFileSync(join(dir, 'node/node-1/ca.crt')));
  expect(held.verify(authority.publicKey)).toBe(true);
  expect([held.ca, authority.ca]).toEqual([false, true]);
});

test('keys are for their owner alone, and nothing half written stays', async () => {
  await certs.authority(365);
  await certs.issue('controller', controller('brain', '10.0.0.1'), issuing);
  const mode = (path: string) => (statSync(join(dir, path)).mode & 0o777).toString(8);
  expect([mode('ca/ca.key'), mode('controller/tls.key'), mode('ca'), mode('controller')]).toEqual([
    '600',
    '600',
    '700',
    '700',
  ]);
  expect(readdirSync(join(dir, 'controller')).sort()).toEqual(['ca.crt', 'tls.crt', 'tls.key']);
});

test('what is good is kept, and renewed in its last third', async () => {
  const first = await certs.authority(365);
  const made = await certs.issue('node/a', node('a'), issuing);
  nowMs += 59 * dayMs;
  const kept = await certs.issue('node/a', node('a'), issuing);
  nowMs += 2 * dayMs;
  const renewed = await certs.issue('node/a', node('a'), issuing);
  const asked = await certs.issue('node/a', node('a'), { ...issuing, renew: true });
  expect(outcomes(first, made, kept, renewed, asked)).toEqual(['made', 'made', 'kept', 'renewed', 'renewed']);
  expect(kept.notAfter).toEqual(made.notAfter);
  expect(outcomes(await certs.authority(365))).toEqual(['kept']);
});

test('a controller that gets a new name gets a new certificate', async () => {
  await certs.authority(365);
  await certs.issue('controller', controller('a', '10.0.0.1'), issuing);
  expect(outcomes(await certs.issue('controller', controller('a', '10.0.0.1'), issuing))).toEqual(['kept']);
  expect(outcomes(await certs.issue('controller', controller('a', 'b', '::1'), issuing))).toEqual(['renewed']);
  expect([certificate('controller').checkHost('b'), certificate('controller').checkIP('::1')]).toEqual(['b', '::1']);
});

test('another authority makes every certificate anew', async () => {
  await certs.authority(365);
  await certs.issue('node/a', node('a'), issuing);
  rmSync(join(dir, 'ca'), { recursive: true });
  await certs.authority(365);
  expect(outcomes(await certs.issue('node/a', node('a'), issuing))).toEqual(['renewed']);
});

test('no certificate outlives its authority', async () => {
  const authority = await certs.authority(10);
  const { notAfter } = await certs.issue('node/a', node('a'), issuing);
  expect(notAfter).toEqual(new Date(authority.notAfter));
});

test('without an authority, and with a broken one, it says what to do and tells no key', async () => {
  await expect(certs.issue('node/a', node('a'), issuing)).rejects.toThrow('run octoplane certs ca --dir');
  await certs.authority(365);
  const other = mkdtempSync(join(all, 'y-'));
  await new CertificateDir(other).authority(365);
  const key = readFileSync(join(other, 'ca/ca.key'), 'utf8');
  writeFileSync(join(dir, 'ca/ca.key'), key);
  const secret = key.split('\n')[1] ?? '';
  const failure = await certs.issue('node/a', node('a'), issuing).then(String, String);
  expect(failure).toContain('the key is of another certificate');
  expect(failure).not.toContain(secret);
});
