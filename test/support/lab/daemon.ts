import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Lab } from './lab.ts';

/**
 * A real `octoplane` process inside the network and the cgroup of a host of the lab, with its output in a file.
 * It can be killed, frozen and started again; its arguments stay.
 */
export class Daemon implements AsyncDisposable {
  readonly name: string;
  readonly logFile: string;
  #args: readonly string[];
  readonly #lab: Lab;
  readonly #host: string;
  readonly #env: Readonly<Record<string, string>>;
  #process: ChildProcess | null = null;
  /** By this machine's clock, which the whole lab shares. */
  startedAtMs = 0;

  constructor(lab: Lab, host: string, name: string, args: readonly string[], env = {}) {
    this.#env = env;
    this.#lab = lab;
    this.#host = host;
    this.name = name;
    this.#args = args;
    this.logFile = join(lab.dir, `${name}.log`);
  }

  get pid(): number {
    const pid = this.#process?.pid;
    if (pid === undefined) throw new Error(`${this.name} does not run`);
    return pid;
  }

  start(args: readonly string[] = this.#args): void {
    if (this.#process) throw new Error(`${this.name} runs already`);
    this.#args = args;
    this.startedAtMs = Date.now();
    const log = openSync(this.logFile, 'a');
    // The shell joins the cgroup before anything of ours runs, then becomes the daemon: same process id.
    const command = ['-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', this.#lab.cgroupOf(this.#host)];
    // As a user starts it, by its own first line, on the Node that runs this.
    const env = { ...process.env, ...this.#env, PATH: `${dirname(process.execPath)}:${process.env['PATH']}` };
    const child = this.#lab.within(this.#host, () =>
      spawn('sh', [...command, this.#lab.program, ...args], { stdio: ['ignore', log, log], env }),
    );
    closeSync(log);
    this.#process = child;
    child.on('exit', () => {
      if (this.#process === child) this.#process = null;
    });
  }

  /** Ends it and waits until it is gone. Returns its exit code, null after a signal that it does not handle. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<number | null> {
    const child = this.#process;
    if (!child) return null;
    const exited = once(child, 'exit');
    child.kill(signal);
    const [code] = (await exited) as [number | null];
    return code;
  }

  /** Waits for it to end by itself. */
  async ended(): Promise<number | null> {
    if (!this.#process) return null;
    const [code] = (await once(this.#process, 'exit')) as [number | null];
    return code;
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT' | 'SIGHUP'): void {
    process.kill(this.pid, signal);
  }

  /** What it has printed; for the message of a test that fails. */
  log(lastLines = 40): string {
    return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-lastLines).join('\n');
  }

  /** SIGKILL, so that a frozen one ends too. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('SIGKILL');
  }
}
