import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const main = join(import.meta.dirname, 'main.ts');
const octoplane = (...args: string[]) =>
  spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env: { PATH: process.env['PATH'] } });

describe('exit codes and messages', () => {
  test('help is success, on stdout', () => {
    const { status, stdout, stderr } = octoplane('wait', '--help');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain('OCTOPLANE_TIMEOUT');
    expect(stdout).toContain('Examples:');
  });

  test.each([
    [['bogus'], "unknown command 'bogus'"],
    [['wait', '--timeout', '5x'], 'Write a duration such as'],
    [['status', '--server', 'nowhere'], 'Write HOST:PORT'],
    [['status', '--server', '192.0.2.1:1'], 'give --tls-cert, --tls-key and --tls-ca'],
    [['status', '--server', '192.0.2.1:1', '--insecure'], 'not a loopback address'],
    [['status', '--tls-cert', 'a'], 'belong together'],
    [['wait', 'default/web', '--version', '3'], 'not both'],
    [['certs', 'node', 'Node-1'], 'Write a DNS name in lower case'],
    [['certs', 'node', '../../etc'], 'Write a DNS name in lower case'],
    [['certs', 'controller', '--owner', 'root'], 'UID:GID'],
    [['wait', '--quorum', '101%'], 'Write a share such as 99%'],
    [['wait', '--gone', 'web'], 'Write 10.244.1.2:8080'],
    [['wait', '--gone', '10.244.1.2', '--version', '2'], 'one of --version, --endpoint and --gone'],
    [['wait', '--quorum', '0'], 'Write a share such as 99%'],
  ])('usage: %j', (args, message) => {
    const { status, stdout, stderr } = octoplane(...args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain(message);
  });

  test('no controller: one line that says what to look at', () => {
    const { status, stderr } = octoplane('status', '--server', '127.0.0.1:1');
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^octoplane: no controller answers at 127\.0\.0\.1:1 .*is it running, and is --server right\?\n$/,
    );
  });
});

describe('--config', () => {
  const dir = mkdtempSync(join(tmpdir(), 'octoplane-cli-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const config = (text: string) => {
    const file = join(dir, 'octoplane.yaml');
    writeFileSync(file, text);
    return file;
  };

  test('an unknown key is refused by name', () => {
    const { status, stderr } = octoplane('node', '--config', config('nodeNmae: a\n'));
    expect(status).toBe(2);
    expect(stderr).toContain('unknown key "nodeNmae"; known are');
  });

  test('broken YAML is refused with its place', () => {
    const file = config('nodeName: a\n  zone: b\n');
    const { status, stderr } = octoplane('node', '--config', file);
    expect(status).toBe(2);
    expect(stderr).toMatch(/octoplane\.yaml:\d+:\d+: /);
  });
});
