import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { inNetns } from './libc.ts';
import type { AgentSetting, Reply, Verbs } from './verbs.ts';

/** The test's end of an agent: a verb is an awaited call. */
export class Agent implements AsyncDisposable {
  readonly verbs: Verbs;
  readonly #process: ChildProcess;
  readonly #calls = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #ids = 0;
  #ended: Error | null = null;

  private constructor(child: ChildProcess, host: string) {
    this.#process = child;
    child.on('message', (reply: Reply) => this.#settle(reply));
    child.on('exit', (code, signal) => {
      this.#ended = new Error(`the agent of ${host} ended (${signal ?? `code ${code}`})`);
      for (const call of this.#calls.values()) call.reject(this.#ended);
      this.#calls.clear();
    });
    this.verbs = new Proxy({} as Verbs, {
      get: (_, verb) => (verb === 'then' ? undefined : (...args: unknown[]) => this.#call(verb, args)),
    });
  }

  /** Starts it inside the host's own network namespace. */
  static async start(netns: string, setting: AgentSetting): Promise<Agent> {
    const program = fileURLToPath(new URL('./agent.ts', import.meta.url));
    const child = inNetns(netns, () =>
      fork(program, [JSON.stringify(setting)], { execArgv: [], serialization: 'advanced' }),
    );
    await Promise.race([
      once(child, 'spawn'),
      once(child, 'error').then(([error]: Error[]) => {
        throw error;
      }),
    ]);
    return new Agent(child, setting.host);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, 'exit');
    this.#process.disconnect();
    await exited;
  }

  #call(verb: string | symbol, args: unknown[]): Promise<unknown> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = ++this.#ids;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.#process.send({ id, verb, args });
    });
  }

  #settle(reply: Reply): void {
    const call = this.#calls.get(reply.id);
    this.#calls.delete(reply.id);
    if (reply.t === 'result') call?.resolve(reply.value);
    else call?.reject(new Error(reply.message));
  }
}
