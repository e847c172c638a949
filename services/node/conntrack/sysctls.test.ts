import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { defaultNodeOptions } from '../options.ts';
import { silentLogger } from '../testing/logger.ts';
import { applySettings, conntrackSettings } from './sysctls.ts';

const { conntrack } = defaultNodeOptions;
let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'octoplane-sysctls-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

it('the defaults are those of kube-proxy', () => {
  expect(conntrackSettings(conntrack, 2).map(({ name, value }) => [name, value])).toEqual([
    ['nf_conntrack_max', 131_072],
    ['nf_conntrack_tcp_timeout_established', 86_400],
    ['nf_conntrack_tcp_timeout_close_wait', 3_600],
  ]);
  expect(conntrackSettings(conntrack, 16)[0]?.value).toBe(16 * 32_768);
});

it('0 asks for nothing', () => {
  const nothing = {
    ...conntrack,
    maxPerCore: 0,
    min: 0,
    tcpEstablishedTimeoutSeconds: 0,
    tcpCloseWaitTimeoutSeconds: 0,
  };
  expect(conntrackSettings(nothing, 4)).toEqual([]);
});

it('the size of the table is raised and never lowered, timeouts are set', async () => {
  const value = (name: string) => readFileSync(join(directory, name), 'utf8').trim();
  writeFileSync(join(directory, 'nf_conntrack_max'), '65536\n');
  writeFileSync(join(directory, 'nf_conntrack_tcp_timeout_established'), '432000\n');
  const settings = conntrackSettings(conntrack, 2);
  await applySettings(settings, silentLogger, directory);
  expect(value('nf_conntrack_max')).toBe('131072');
  expect(value('nf_conntrack_tcp_timeout_established')).toBe('86400');
  writeFileSync(join(directory, 'nf_conntrack_max'), '1000000\n');
  await applySettings(settings, silentLogger, directory);
  expect(value('nf_conntrack_max')).toBe('1000000');
});
