import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A real etcd of one member on loopback, with a data directory of its own. Disposed: killed, and its data removed. */
export class EtcdServer {
  readonly url: string;
  readonly port: number;
  readonly #peerUrl: string;
  readonly #directory = mkdtempSync(join(tmpdir(), 'octoplane-etcd-'));
  #process: ChildProcess | null = null;

  private constructor(port: number, peerPort: number) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.#peerUrl = `http://127.0.0.1:${peerPort}`;
  }

  static async start(): Promise<EtcdServer> {
    const [port, peerPort] = await freePorts();
    const server = new EtcdServer(port, peerPort);
    await server.start();
    return server;
  }

  /** Resolves when it serves clients. After `kill` it starts with the data that it had. */
  async start(): Promise<void> {
    const child = spawn(
      'etcd',
      [
        ...['--name', 'test', '--data-dir', this.#directory, '--unsafe-no-fsync'],
        ...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
        ...['--listen-peer-urls', this.#peerUrl, '--initial-advertise-peer-urls', this.#peerUrl],
        ...['--initial-cluster', `test=${this.#peerUrl}`, '--logger', 'zap', '--log-outputs', 'stderr'],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#process = child;
    let log = '';
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => reject(new Error(`etcd did not start:\n${log}`)));
      child.stderr?.on('data', (chunk: Buffer) => {
        // Once it serves, the rest is read and dropped, so that it never waits for us.
        if (log.length < 1_000_000) log += chunk.toString();
        if (/serving (insecure )?client (requests|traffic)/.test(log)) resolve();
      });
    });
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true });
  }
}

/** Ports that nobody had a moment ago: etcd cannot be told to choose its own. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  const ports: number[] = [];
  for (const server of servers) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (typeof address === 'object' && address !== null) ports.push(address.port);
  }
  for (const server of servers) server.close();
  const [a = 0, b = 0] = ports;
  return [a, b];
}
