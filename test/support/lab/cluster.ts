import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import {
  AdminServiceClient,
  type GetStatusResponse,
  type ListNodesResponse,
  NodeStatus_State,
  WaitRequest,
  WaitResponse,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Daemon } from './daemon.ts';
import type { Lab } from './lab.ts';
import { clusterCidrs, type HostPlan, serviceCidrs } from './plan.ts';
import { relayTo } from './relay.ts';
import { SourceDir } from './source-dir.ts';

const grpcPort = 12_090;
export const controllerHttpPort = 12_091;
const sourceName = 'lab';

export interface ClusterOptions {
  readonly driver: string;
  /** Appended to every node daemon's command line. */
  readonly nodeFlags?: readonly string[];
  /** In the place of the directory, as `--source` takes them. */
  readonly sources?: readonly string[];
  /** Appended to the controller's command line. */
  readonly controllerFlags?: readonly string[];
  /** Added to the controller's environment. */
  readonly controllerEnv?: Readonly<Record<string, string>>;
  /** Port of this machine's loopback at which the controller can be asked. Default: any. */
  readonly adminPort?: number;
}

export interface SettleOptions {
  /** Node names; default: all of the lab. */
  readonly nodes?: readonly string[];
  /** Default 60 s: a machine that is shared is slow, and whoever waits for what does not come is told who was late. */
  readonly timeoutMs?: number;
}

/** A controller on the lab's brain and a daemon on each of its nodes: the real programs, with a directory as their source. */
export class Cluster implements AsyncDisposable {
  readonly lab: Lab;
  readonly driver: string;
  readonly source: SourceDir;
  readonly controller: Daemon;
  readonly admin: AdminServiceClient;
  readonly #nodes: ReadonlyMap<string, Daemon>;
  readonly #relay: AsyncDisposable;
  #flags: readonly string[];

  private constructor(lab: Lab, driver: string, parts: Parts) {
    this.lab = lab;
    this.driver = driver;
    this.source = parts.source;
    this.controller = parts.controller;
    this.#nodes = parts.nodes;
    this.#relay = parts.relay;
    this.#flags = parts.flags;
    this.admin = new AdminServiceClient(parts.relay.address, credentials.createInsecure(), {
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 500,
    });
  }

  /** Starts everything; the source has the Node objects and nothing else. Call `settled` to wait for it. */
  static async start(lab: Lab, options: ClusterOptions): Promise<Cluster> {
    const { driver, nodeFlags = [], controllerFlags = [], adminPort = 0 } = options;
    const dir = join(lab.dir, driver);
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir);
    const source = new SourceDir(join(dir, 'manifests'));
    for (const host of lab.nodes) source.put(nodeManifest(host));
    const brain = lab.place('brain').addresses.IPv4;
    const { sources = [`${sourceName}=file:${source.path}`] } = options;
    const args = [
      'controller',
      ...sources.flatMap((each) => ['--source', each]),
      ...['--listen', `${brain}:${grpcPort}`, '--http', `${brain}:${controllerHttpPort}`],
      ...['--service-cidr', Object.values(serviceCidrs).join(',')],
      ...['--state-dir', join(dir, 'controller'), '--insecure', '--insecure-allow-remote'],
      ...controllerFlags,
    ];
    const controller = new Daemon(lab, 'brain', `${driver}-controller`, args, options.controllerEnv);
    const nodes = new Map(
      lab.nodes.map(({ name }) => {
        const args = nodeArgs(lab, name, { driver, stateDir: stateDirOf(lab, driver, name), flags: nodeFlags });
        return [name, new Daemon(lab, name, `${driver}-${name}`, args)];
      }),
    );
    const relay = await relayTo(lab.place('brain'), brain, grpcPort, adminPort);
    const cluster = new Cluster(lab, driver, { source, controller, nodes, relay, flags: nodeFlags });
    controller.start();
    for (const node of nodes.values()) node.start();
    return cluster;
  }

  node(name: string): Daemon {
    const node = this.#nodes.get(name);
    if (!node) throw new RangeError(`there is no daemon on ${name}`);
    return node;
  }

  get nodeNames(): readonly string[] {
    return [...this.#nodes.keys()];
  }

  /** The Node object as it is at the start. */
  putNode(name: string): void {
    this.source.put(nodeManifest(this.lab.hostOf(name)));
  }

  stateDirOf(node: string): string {
    return stateDirOf(this.lab, this.driver, node);
  }

  /** A daemon's command line, with another driver. */
  nodeArgs(node: string, driver: string): readonly string[] {
    return nodeArgs(this.lab, node, { driver, stateDir: this.stateDirOf(node), flags: this.#flags });
  }

  /** Ends the node daemons and starts them with other flags. */
  async restartNodes(flags: readonly string[]): Promise<void> {
    this.#flags = flags;
    await Promise.all([...this.#nodes.values()].map((node) => node.stop()));
    for (const [name, node] of this.#nodes) node.start(this.nodeArgs(name, this.driver));
  }

  /** Waits until everything that is in the source now is in the kernel of these nodes, whose daemons are those that run now. */
  async settled({ nodes = this.nodeNames, timeoutMs = 60_000 }: SettleOptions = {}): Promise<WaitResponse> {
    const until = Date.now() + timeoutMs;
    const inputs = [{ source: sourceName, incarnation: '', revision: this.source.revision() }];
    for (;;) {
      const last = await this.wait({ selectors: [...nodes], inputs }, until - Date.now());
      if (!last.done || Date.now() > until) throw new Error(await this.#describeLate(nodes, last));
      if (await this.#areBack(nodes)) return last;
      // A node that was killed a moment ago has what it had. Only the time of its connection tells that it is back.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async #areBack(names: readonly string[]): Promise<boolean> {
    const { nodes } = await this.#ask<ListNodesResponse>((...call) => this.admin.listNodes({ selectors: [] }, ...call));
    return names.every((name) => {
      const status = nodes.find((node) => node.name === name);
      const isBack = status !== undefined && status.connectedAtMs >= this.node(name).startedAtMs;
      return isBack && status.state === NodeStatus_State.CURRENT;
    });
  }

  async #describeLate(nodes: readonly string[], last: WaitResponse): Promise<string> {
    const logs = [this.controller, ...nodes.map((name) => this.node(name))].map(
      (daemon) => `--- ${daemon.name}\n${daemon.log()}`,
    );
    return `not settled: ${JSON.stringify(last)}\n${logs.join('\n')}`;
  }

  /** `octoplane ...` as somebody on the controller's host types it. */
  octoplane(
    args: readonly string[],
    input = '',
  ): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
    const env = {
      ...process.env,
      PATH: `${dirname(process.execPath)}:${process.env['PATH']}`,
      OCTOPLANE_SERVER: this.address,
    };
    const { status, stdout, stderr } = this.lab.within('brain', () =>
      spawnSync(this.lab.program, args, { input, encoding: 'utf8', env }),
    );
    return { status, stdout, stderr };
  }

  /** Of the controller, inside the lab. */
  get address(): string {
    return `${this.lab.place('brain').addresses.IPv4}:${grpcPort}`;
  }

  status(): Promise<GetStatusResponse> {
    return this.#ask((...call) => this.admin.getStatus({}, ...call));
  }

  #ask<Response>(call: Unary<Response>): Promise<Response> {
    return new Promise((resolve, reject) => {
      call(new Metadata({ waitForReady: true }), { deadline: Date.now() + 10_000 }, (error, response) =>
        error ? reject(error) : resolve(response),
      );
    });
  }

  /** Asks until the answer is as wanted: a source's state is told by no event. */
  async untilStatus(isWanted: (status: GetStatusResponse) => boolean, timeoutMs = 20_000): Promise<GetStatusResponse> {
    const until = Date.now() + timeoutMs;
    for (;;) {
      const answer = await this.status();
      if (isWanted(answer)) return answer;
      if (Date.now() > until) throw new Error(`the status is still ${JSON.stringify(answer)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** The last report of a Wait; `done` tells whether it ended in time. Waits for a controller that is not there yet, too. */
  async wait(request: Partial<WaitRequest>, timeoutMs: number): Promise<WaitResponse> {
    const metadata = new Metadata({ waitForReady: true });
    const reports = this.admin.wait({ ...WaitRequest.create(), ...request }, metadata, {
      deadline: Date.now() + timeoutMs,
    });
    let last = WaitResponse.create();
    try {
      for await (const report of reports as AsyncIterable<WaitResponse>) last = report;
    } catch (error) {
      if ((error as ServiceError).code !== status.DEADLINE_EXCEEDED) throw error;
    }
    return last;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.admin.close();
    await Promise.all([...this.#nodes.values(), this.controller].map((daemon) => daemon[Symbol.asyncDispose]()));
    await this.#relay[Symbol.asyncDispose]();
  }
}

type Unary<Response> = (
  metadata: Metadata,
  options: { readonly deadline: number },
  done: (error: ServiceError | null, response: Response) => void,
) => unknown;

interface Parts {
  readonly source: SourceDir;
  readonly controller: Daemon;
  readonly nodes: ReadonlyMap<string, Daemon>;
  readonly flags: readonly string[];
  readonly relay: { readonly address: string } & AsyncDisposable;
}

const stateDirOf = (lab: Lab, driver: string, node: string): string => join(lab.dir, driver, node);

interface NodeSetting {
  readonly driver: string;
  readonly stateDir: string;
  readonly flags: readonly string[];
}

function nodeArgs(lab: Lab, name: string, { driver, stateDir, flags }: NodeSetting): string[] {
  return [
    'node',
    ...['--controller', `${lab.place('brain').addresses.IPv4}:${grpcPort}`, '--insecure', '--insecure-allow-remote'],
    ...['--node-name', name, '--driver', driver, '--state-dir', stateDir],
    ...['--cluster-cidr', Object.values(clusterCidrs).join(',')],
    ...['--cgroup-path', lab.cgroupOf(name), '--bpf-fs', lab.bpfFsOf(name)],
    ...flags,
  ];
}

export const nodeManifest = (host: HostPlan) => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: host.name, labels: { 'topology.kubernetes.io/zone': host.zone } },
  status: {
    addresses: Object.values(host.places[0].addresses).map((address) => ({ type: 'InternalIP', address })),
  },
});
