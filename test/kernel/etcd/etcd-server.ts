import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface EtcdOptions {
  /** The address it listens on. Default 127.0.0.1. */
  readonly ip?: string;
  /** In PEM files; clients must then come with a certificate of this authority. Default: plain http. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string };
  /** Starts the process elsewhere, as in another network namespace. */
  readonly within?: <T>(start: () => T) => T;
}

interface Member extends EtcdOptions {
  readonly name: string;
  readonly port: number;
  readonly peerPort: number;
}

/** A real etcd, with a data directory of its own. Disposed: killed, and its data removed. */
export class EtcdServer {
  readonly url: string;
  readonly port: number;
  readonly #member: Member;
  readonly #members: readonly Member[];
  readonly #directory = mkdtempSync(join(tmpdir(), 'octoplane-etcd-'));
  #process: ChildProcess | null = null;

  private constructor(member: Member, members: readonly Member[]) {
    this.#member = member;
    this.#members = members;
    this.port = member.port;
    this.url = `${member.tls ? 'https' : 'http'}://${member.ip ?? '127.0.0.1'}:${member.port}`;
  }

  static async start(options: EtcdOptions = {}): Promise<EtcdServer> {
    const [server] = await EtcdServer.startCluster(1, options);
    if (!server) throw new Error('a cluster of one has one member');
    return server;
  }

  /** Members that know each other; resolves when all of them serve. */
  static async startCluster(size: number, options: EtcdOptions = {}): Promise<readonly EtcdServer[]> {
    const ports = await freePorts(2 * size);
    const members = Array.from({ length: size }, (_, i) => {
      const [port = 0, peerPort = 0] = ports.slice(2 * i);
      return { ...options, name: `test-${i}`, port, peerPort };
    });
    const servers = members.map((member) => new EtcdServer(member, members));
    await Promise.all(servers.map((server) => server.start()));
    return servers;
  }

  /** Resolves when it serves clients. After `kill` it starts with the data that it had. */
  async start(): Promise<void> {
    const { name, tls, within = (act) => act() } = this.#member;
    const peerUrl = peerUrlOf(this.#member);
    const args = [
      ...['--name', name, '--data-dir', this.#directory, '--unsafe-no-fsync'],
      ...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
      ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
      ...['--initial-cluster', this.#members.map((each) => `${each.name}=${peerUrlOf(each)}`).join(',')],
      ...['--heartbeat-interval', '50', '--election-timeout', '500', '--logger', 'zap', '--log-outputs', 'stderr'],
      ...(tls
        ? ['--cert-file', tls.cert, '--key-file', tls.key, '--trusted-ca-file', tls.ca, '--client-cert-auth']
        : []),
    ];
    const options: SpawnOptions = { stdio: ['ignore', 'ignore', 'pipe'] };
    const child = within(() => spawn('etcd', args, options));
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

  /** Stands still, or goes on: connections stay open. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#process?.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true });
  }
}

const peerUrlOf = ({ ip = '127.0.0.1', peerPort }: Member): string => `http://${ip}:${peerPort}`;

/** Ports that nobody had a moment ago: etcd cannot be told to choose its own. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (typeof address === 'object' && address !== null) ports.push(address.port);
  }
  for (const server of servers) server.close();
  return ports;
}
