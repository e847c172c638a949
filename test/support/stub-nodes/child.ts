import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** A child that answers messages in kind: `ask` resolves with the next report of a type. */
export class Child<Request extends object, Report extends { readonly t: string }> {
  readonly #process: ChildProcess;
  readonly #exit: Promise<number | null>;

  constructor(
    file: string,
    { execArgv = [], env = {} }: { execArgv?: readonly string[]; env?: NodeJS.ProcessEnv } = {},
  ) {
    this.#process = fork(fileURLToPath(new URL(file, import.meta.url)), [], {
      execArgv: [...execArgv],
      env: { ...process.env, ...env },
      serialization: 'advanced',
    });
    this.#process.setMaxListeners(100);
    this.#exit = new Promise((resolve) => this.#process.once('exit', resolve));
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  send(request: Request): void {
    this.#process.send(request);
  }

  next<T extends Report['t']>(t: T, signal?: AbortSignal): Promise<Extract<Report, { t: T }>> {
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#process.off('message', onMessage);
        this.#process.off('exit', onExit);
        signal?.removeEventListener('abort', onAbort);
      };
      const onMessage = (report: Report) => {
        if (report.t !== t) return;
        done();
        resolve(report as Extract<Report, { t: T }>);
      };
      const onExit = (code: number | null) => {
        done();
        reject(new Error(`the child ended with ${code}`));
      };
      const onAbort = () => {
        done();
        reject(signal?.reason);
      };
      this.#process.on('message', onMessage);
      this.#process.on('exit', onExit);
      signal?.addEventListener('abort', onAbort);
    });
  }

  ask<T extends Report['t']>(request: Request, t: T): Promise<Extract<Report, { t: T }>> {
    const answer = this.next(t);
    this.send(request);
    return answer;
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#process.kill(signal);
    await this.#exit;
  }
}
