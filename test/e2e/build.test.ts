import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { beforeAll, expect, test } from 'vitest';
import { Collector } from '../support/collector/collector.ts';
import { cgroupRoot } from '../support/lab/build.ts';

const root = join(import.meta.dirname, '../..');
const main = join(root, 'dist/main.js');

const service = `
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default }
spec: { ports: [{ port: 80 }] }
`;

beforeAll(() => void execFileSync(process.execPath, [join(root, 'deploy/build.ts')], { stdio: 'pipe' }));

// The exporters of traces are loaded when they are wanted, and bundling treats that differently from a plain import.
test.each([null, 'grpc', 'http/protobuf'] as const)(
  'what ships runs, traces over %s: a controller, and a client of it',
  async (protocol) => {
    await using collector = await Collector.listen();
    const env = { ...process.env, ...(protocol && collector.environment(protocol)) };
    const source = mkdtempSync(join(tmpdir(), 'octoplane-build-'));
    writeFileSync(join(source, 'web.yaml'), service);
    const flags = ['--insecure', '--listen', '127.0.0.1:0', '--http', '127.0.0.1:0'];
    const controller = spawn(process.execPath, [main, 'controller', '--source', `file:${source}`, ...flags], { env });
    const exited = once(controller, 'exit');
    try {
      const log: string[] = [];
      let port = 0;
      for await (const line of createInterface(controller.stderr)) {
        log.push(line);
        const event: { msg?: string; ports?: { grpc: number } } = line.startsWith('{') ? JSON.parse(line) : {};
        port = event.ports?.grpc ?? port;
        if (event.msg?.startsWith('all sources are in sync')) break;
      }
      expect(port, log.join('\n')).toBeGreaterThan(0);
      const services = execFileSync(process.execPath, [
        main,
        'services',
        '--server',
        `127.0.0.1:${port}`,
        '-o',
        'json',
      ]);
      expect(JSON.parse(services.toString()).services).toMatchObject([{ namespace: 'default', name: 'web' }]);
    } finally {
      controller.kill();
      rmSync(source, { recursive: true });
    }
    expect(await exited).toEqual([0, null]);
  },
);

test('and a node: its BPF programs are beside it, need no compiler, and nothing of netfilter', async () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'octoplane-build-'));
  const cgroup = join(cgroupRoot(), `octoplane-build-${process.pid}`);
  const bpfFs = `/sys/fs/bpf/octoplane-build-${process.pid}`;
  for (const directory of [cgroup, bpfFs]) mkdirSync(directory);
  const shell = 'ip link set lo up; exec env PATH=/usr/sbin:/sbin "$@"';
  const places = ['--state-dir', stateDir, '--cgroup-path', cgroup, '--bpf-fs', bpfFs];
  const flags = ['--driver', 'ebpf', '--node-name', 'n', '--controller', '127.0.0.1:1', '--insecure', ...places];
  const node = spawn('unshare', ['-n', 'sh', '-c', shell, 'sh', process.execPath, main, 'node', ...flags]);
  const exited = once(node, 'exit');
  try {
    const log: string[] = [];
    for await (const line of createInterface(node.stderr)) {
      log.push(line);
      if (line.includes('no rule set on disk')) break;
    }
    expect(log.join('\n')).toContain('no rule set on disk');
    const maps = execFileSync('find', [bpfFs, '-name', 'frontends'], { encoding: 'utf8' });
    expect(maps).toContain(bpfFs);
    const within = ['-t', String(node.pid), '-n', 'nft', 'list', 'ruleset'];
    expect(execFileSync('nsenter', within, { encoding: 'utf8' })).toBe('');
  } finally {
    node.kill();
    await exited;
    rmSync(bpfFs, { recursive: true });
    rmSync(stateDir, { recursive: true });
    rmdirSync(cgroup);
  }
  expect(await exited).toEqual([0, null]);
});
