import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';

/** Where a Docker engine answers. Disposing ends it when it was started here, with all that it kept. */
export interface Engine extends AsyncDisposable {
  /** As DOCKER_HOST has it. */
  readonly host: string;
}

/** The engine that runs, or one of our own for the time of the tests. */
export async function openEngine(): Promise<Engine> {
  const running = runningEngine();
  if (running !== null) return { host: running, [Symbol.asyncDispose]: () => Promise.resolve() };
  return startEngine();
}

function runningEngine(): string | null {
  const host = process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock';
  return answers(host) ? host : null;
}

function answers(host: string): boolean {
  try {
    execFileSync('docker', ['--host', host, 'info'], { stdio: 'ignore', timeout: 20_000 });
    return true;
  } catch {
    // Nobody there, or not for us: either way there is none to use.
    return false;
  }
}

/**
 * An engine that leaves the machine as it is: no rules, no forwarding, its files in a directory that goes with it. It sees a unified
 * cgroup hierarchy, as machines have it now, in a mount namespace of its own: with the older one, containers share the cgroup whose
 * sockets the ebpf driver serves.
 */
async function startEngine(): Promise<Engine> {
  const dir = mkdtempSync(join(tmpdir(), 'octoplane-docker-'));
  const host = `unix://${dir}/docker.sock`;
  const flags = [
    `--data-root=${dir}/data`,
    `--exec-root=${dir}/run`,
    `--pidfile=${dir}/docker.pid`,
    `--host=${host}`,
    '--iptables=false',
    '--ip6tables=false',
    '--ip-forward=false',
  ];
  const hadBridge = existsSync(bridge);
  const logFile = join(dir, 'log');
  const log = openSync(logFile, 'a');
  const script = 'mount -t cgroup2 none /sys/fs/cgroup && exec dockerd "$@"';
  const daemon = spawn('unshare', ['--mount', 'sh', '-c', script, 'sh', ...flags], { stdio: ['ignore', log, log] });
  closeSync(log);
  const engine = { host, [Symbol.asyncDispose]: () => end(daemon, dir, hadBridge) };
  const ended = once(daemon, 'exit');
  try {
    while (!existsSync(`${dir}/docker.sock`) || !answers(host)) {
      const gone = await Promise.race([ended.then(() => true), after(200, false)]);
      if (gone) throw new Error(`dockerd does not start:\n${readFileSync(logFile, 'utf8').slice(-4_000)}`);
    }
  } catch (error) {
    await engine[Symbol.asyncDispose]();
    throw error;
  }
  return engine;
}

/** Of the engine's default network; it would stay. */
const bridge = '/sys/class/net/docker0';

async function end(daemon: ChildProcess, dir: string, hadBridge: boolean): Promise<void> {
  if (daemon.exitCode === null && daemon.signalCode === null) {
    const ended = once(daemon, 'exit');
    daemon.kill('SIGTERM');
    await ended;
  }
  if (!hadBridge && existsSync(bridge)) execFileSync('ip', ['link', 'delete', 'docker0']);
  rmSync(dir, { recursive: true, force: true });
}
