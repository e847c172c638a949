import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Lab } from '../support/lab/lab.ts';
import type { Setting } from './datapath-driver.ts';

/** The processes of the datapath benchmark, each in a pod or on a node, and in the cgroup of that node. */
export interface Processes {
  readonly lab: Lab;
  readonly signal: AbortSignal;
}

/** Who is measured: a client's place, and where it connects to. */
export interface Contestant {
  readonly name: string;
  readonly place: string;
  readonly ip: string;
  readonly port: number;
}

/** A client or a server (datapath-peers.ts). */
export class Peer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess, lines: Interface) {
    this.#child = child;
    this.#lines = lines[Symbol.asyncIterator]();
  }

  /** Returns when it has said its first word; `at once` is for those that wait for one. */
  static async start(
    processes: Processes,
    place: string,
    args: readonly string[],
    returns: 'ready' | 'at once' = 'ready',
  ): Promise<Peer> {
    const script = join(import.meta.dirname, 'datapath-peers.ts');
    // All on one processor: waking the other one takes twenty times as long as a request, and not the same time twice.
    const peer = Peer.#run(processes, place, ['taskset', '-c', '0', process.execPath, script, ...args]);
    if (returns === 'ready') await peer.#line();
    return peer;
  }

  static async iperfServer(processes: Processes, place: string, ip: string, port: number): Promise<Peer> {
    // It complains when it is ended.
    const peer = Peer.#run(processes, place, ['iperf3', '-s', '-B', ip, '-p', String(port), '--forceflush'], 'ignore');
    await peer.#line();
    return peer;
  }

  static #run(
    { lab, signal }: Processes,
    place: string,
    argv: readonly string[],
    stderr: 'inherit' | 'ignore' = 'inherit',
  ): Peer {
    const shell = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"';
    const child = lab.within(place, () =>
      spawn('sh', ['-c', shell, 'sh', lab.cgroupOf(lab.hostOf(place).name), ...argv], {
        stdio: ['pipe', 'pipe', stderr],
        signal,
      }),
    );
    return new Peer(child, createInterface(child.stdout));
  }

  /** Nanoseconds of one of `count` operations. */
  async measure(count: number): Promise<number> {
    this.#child.stdin?.write(`${count}\n`);
    return Number(await this.#line());
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`${this.#child.spawnargs.slice(5, 11).join(' ')} ended without a word`);
    return value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill();
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit');
  }
}

/** A process with the driver of a node (datapath-driver.ts); it takes everything back when its stdin ends. */
export async function programNode(
  { lab, signal }: Processes,
  node: string,
  wanted: Omit<Setting, 'options'>,
): Promise<{ readonly child: ChildProcess; readonly bpfFsPath: string; readonly loadedMs: number }> {
  const options = {
    cgroupPath: lab.cgroupOf(node),
    bpfFsPath: lab.bpfFsOf(node),
    stateDir: join(lab.dir, node),
  };
  mkdirSync(options.stateDir, { recursive: true });
  const setting: Setting = { ...wanted, options };
  const script = join(import.meta.dirname, 'datapath-driver.ts');
  const child = lab.within(node, () =>
    spawn(process.execPath, [script, JSON.stringify(setting)], { stdio: ['pipe', 'pipe', 'inherit'], signal }),
  );
  for await (const line of createInterface(child.stdout)) {
    const { appliedMs, readBackMs } = JSON.parse(line) as { appliedMs: number; readBackMs: number };
    return { child, bpfFsPath: options.bpfFsPath, loadedMs: appliedMs + readBackMs };
  }
  throw new Error(`the ${wanted.driver} driver ended without a word`);
}
