import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const main = join(root, 'dist/main.js');

const service = `
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default }
spec: { ports: [{ port: 80 }] }
`;

test('what ships runs: a controller, and a client of it', async () => {
  execFileSync(process.execPath, [join(root, 'deploy/build.ts')], { stdio: 'pipe' });
  const source = mkdtempSync(join(tmpdir(), 'octoplane-build-'));
  writeFileSync(join(source, 'web.yaml'), service);
  const flags = ['--insecure', '--listen', '127.0.0.1:0', '--http', '127.0.0.1:0'];
  const controller = spawn(process.execPath, [main, 'controller', '--source', `file:${source}`, ...flags]);
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
    const services = execFileSync(process.execPath, [main, 'services', '--server', `127.0.0.1:${port}`, '-o', 'json']);
    expect(JSON.parse(services.toString()).services).toMatchObject([{ namespace: 'default', name: 'web' }]);
  } finally {
    controller.kill();
    rmSync(source, { recursive: true });
  }
  expect(await exited).toEqual([0, null]);
});
