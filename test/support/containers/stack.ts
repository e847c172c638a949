import { type ExecFileException, execFile } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import {
  type ContainerRuntimeClient,
  GenericContainer,
  getContainerRuntimeClient,
  type StartedTestContainer,
  Wait,
} from 'testcontainers';
import { images } from './images.ts';

const root = join(import.meta.dirname, '../../..');

export interface Outcome {
  readonly code: number;
  readonly output: string;
}

/** What the compose file has without what would have to be pulled; `hosts`: how many of the three. */
export const services = (hosts: number): readonly string[] => [
  'etcd',
  'seed',
  'controller',
  ...Array.from({ length: hosts }, (_, i) => [`host-${i + 1}`, `node-${i + 1}`, `backend-${i + 1}`]).flat(),
];

/**
 * The project's docker-compose.yml under a name of its own, brought up and down by docker-compose; what is done to it meanwhile goes
 * to the engine directly, which takes milliseconds instead of seconds.
 */
export class Stack implements AsyncDisposable {
  readonly project: string;
  readonly engine: ContainerRuntimeClient;
  readonly #hosts: number;
  readonly #env: Readonly<Record<string, string | undefined>>;
  #admin: StartedTestContainer | null = null;

  private constructor(
    engine: ContainerRuntimeClient,
    name: string,
    hosts: number,
    env: Readonly<Record<string, string>>,
  ) {
    this.engine = engine;
    this.project = `octoplane-test-${process.pid}-${name}`;
    this.#hosts = hosts;
    const anyPort = { CONTROLLER_PORT: '0', CONTROLLER_HTTP_PORT: '0', NODE_PORT: '0' };
    this.#env = { ...process.env, ...anyPort, OTLP_ENDPOINT: '', ...env };
  }

  static async open(name: string, hosts: number, env: Readonly<Record<string, string>> = {}): Promise<Stack> {
    return new Stack(await getContainerRuntimeClient(), name, hosts, env);
  }

  /** `env` may change the driver. */
  async up(env: Readonly<Record<string, string>> = {}): Promise<void> {
    const { code, output } = await this.compose(['up', '-d', '--no-build', ...services(this.#hosts)], env);
    if (code !== 0) throw new Error(`docker-compose up ended with ${code}:\n${output}`);
    this.#admin ??= await this.#startAdmin();
    await this.converged();
  }

  /** Everybody's health checks are content, and every node has every endpoint. */
  async converged(): Promise<void> {
    for (const service of services(this.#hosts)) await this.#healthy(service);
    for (let n = 1; n <= this.#hosts; n++)
      await this.octoplane('wait', '--endpoint', `${await this.addressOf(n)}:8080`, '--quorum', String(this.#hosts));
  }

  /** `docker-compose ARGS`, whatever comes of it. */
  compose(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
    const options = { cwd: root, env: { ...this.#env, ...env }, maxBuffer: 64 << 20 };
    return new Promise((resolve) => {
      execFile('docker-compose', ['-p', this.project, ...args], options, (error, stdout, stderr) =>
        resolve({ code: codeOf(error), output: `${stdout}${stderr}` }),
      );
    });
  }

  /** What an admin asks. @throws Error with what it said when it fails */
  async octoplane(...args: readonly string[]): Promise<string> {
    if (!this.#admin) throw new Error('the stack is not up');
    const { exitCode, output } = await this.#admin.exec(['octoplane', ...args]);
    if (exitCode !== 0) throw new Error(`octoplane ${args.join(' ')} ended with ${exitCode}:\n${output}`);
    return output;
  }

  /** Runs a command in the container of a service. */
  async exec(service: string, ...command: readonly string[]): Promise<Outcome> {
    const { exitCode, output } = await this.engine.container.exec(this.container(service), [...command]);
    return { code: exitCode, output };
  }

  /** Connections to a service address from a container: who answered, how often. Failures are under "failed: ...". */
  async call(from: string, url = serviceUrl): Promise<Map<string, number>> {
    return answersIn((await this.exec(from, 'call', url, '60')).output);
  }

  /** Resolves once the first of so many connections was answered, with what will have come of them all. */
  async startCalling(from: string, times: number): Promise<{ readonly answers: Promise<Map<string, number>> }> {
    // With a terminal the output comes as it is, without frames.
    const options = { Cmd: ['call', serviceUrl, String(times)], AttachStdout: true, Tty: true };
    const stream = await (await this.container(from).exec(options)).start({ Tty: true });
    let output = '';
    const begun = once(stream, 'data');
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
    const answers = once(stream, 'end').then(() => answersIn(output));
    await begun;
    return { answers };
  }

  /** Of a host on the network of clients. */
  async addressOf(n: number): Promise<string> {
    const { NetworkSettings } = await this.container(`host-${n}`).inspect();
    return NetworkSettings.Networks[`${this.project}_data`]?.IPAddress ?? '';
  }

  container(service: string) {
    return this.engine.container.getById(`${this.project}_${service}_1`);
  }

  network(name: 'control' | 'data') {
    return this.engine.network.getById(`${this.project}_${name}`);
  }

  /** What a daemon has logged, an event a line. */
  async log(service: string): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const bytes = await this.container(service).logs({ stdout: true, stderr: true });
    // Lines are framed by 8 bytes each.
    return bytes
      .toString('utf8')
      .split('\n')
      .flatMap((line) => (line.includes('{') ? [JSON.parse(line.slice(line.indexOf('{')))] : []));
  }

  /** A container on the network of the controller, with a volume of certificates if it is to have one. */
  visitor(image: string, certificates: string | null = null): GenericContainer {
    const visitor = new GenericContainer(image).withNetworkMode(`${this.project}_control`).withAutoRemove(true);
    if (certificates === null) return visitor;
    return visitor.withBindMounts([
      { source: `${this.project}_${certificates}`, target: '/etc/octoplane/tls', mode: 'ro' },
    ]);
  }

  /** The engine asks every few seconds; one that has no health check is as it should be. */
  async #healthy(service: string): Promise<void> {
    for (;;) {
      const { State } = await this.container(service).inspect();
      if (State.Health === undefined || State.Health.Status === 'healthy') return;
      await after(100);
    }
  }

  #startAdmin(): Promise<StartedTestContainer> {
    return (
      this.visitor(images.CONTROLLER_IMAGE, 'certs-admin')
        .withEnvironment({ OCTOPLANE_SERVER: 'controller:12090' })
        .withEntrypoint(['sleep', 'infinity'])
        // Instead of the image's own health check, which asks a controller.
        .withWaitStrategy(Wait.forSuccessfulCommand('octoplane --version'))
        .start()
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#admin?.stop({ timeout: 0 });
    const { code, output } = await this.compose(['down', '-v', '-t', '0', '--remove-orphans']);
    if (code !== 0) throw new Error(`docker-compose down ended with ${code}:\n${output}`);
  }
}

const serviceUrl = 'http://10.96.0.10';

const answersIn = (output: string): Map<string, number> =>
  new Map([...output.matchAll(/^(.+) (\d+)\r?$/gm)].map(([, who = '', count]) => [who, Number(count)]));

const codeOf = (error: ExecFileException | null): number =>
  error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
