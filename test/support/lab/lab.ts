import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Ip } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import { Agent } from './agent-client.ts';
import {
  bpfFs,
  buildNetwork,
  labDir,
  makeCgroups,
  netnsPath,
  newPrefix,
  reapDeadLabs,
  removeLeftovers,
  runIpBatch,
} from './build.ts';
import { inNetns } from './libc.ts';
import type { Outcome } from './outcome.ts';
import type { PingOutcome } from './ping.ts';
import { type HostPlan, type LabOptions, type LabPlan, type Place, planLab, routesThrough } from './plan.ts';
import type {
  DialManyRequest,
  DialRequest,
  KernelAccess,
  LoadReport,
  LoadRequest,
  ServerSpec,
  Tally,
  Verbs,
} from './verbs.ts';

/** Long enough for two retransmissions of a SYN on a busy machine; what is expected to answer waits at most so long. */
const answerTimeoutMs = 8_000;

export type DialOptions = Partial<Pick<DialRequest, 'timeoutMs' | 'bindPort' | 'bytes' | 'connected' | 'transport'>>;
export type LoadOptions = Partial<Omit<LoadRequest, 'at' | 'ip' | 'port'>>;

const sources = fileURLToPath(new URL('../../../services/cli/main.ts', import.meta.url));

interface Parts {
  readonly plan: LabPlan;
  readonly dir: string;
  readonly cgroup: string;
  readonly program: string;
  readonly agents: ReadonlyMap<string, Agent>;
}

/**
 * Several hosts on one machine: namespaces for nodes, their pods and a client outside, as plan.ts draws them, with a process
 * in every host that opens real sockets for the test. Needs root. All of it is gone after `await using`, and what a lab of
 * a process that died left behind is removed by the next one.
 */
export class Lab implements AsyncDisposable {
  readonly plan: LabPlan;
  /** A private directory for files of this lab. */
  readonly dir: string;
  /** cgroup v2 directory with one directory for each host. */
  readonly cgroup: string;
  /** The octoplane that daemons of this lab run. */
  readonly program: string;
  readonly #agents: ReadonlyMap<string, Agent>;
  readonly #hosts = new Map<string, HostPlan>();
  readonly #places = new Map<string, Place>();

  private constructor({ plan, dir, cgroup, program, agents }: Parts) {
    this.plan = plan;
    this.dir = dir;
    this.cgroup = cgroup;
    this.program = program;
    this.#agents = agents;
    for (const host of plan.hosts) {
      for (const place of host.places) {
        this.#hosts.set(place.name, host);
        this.#places.set(place.name, place);
      }
    }
  }

  static async create(options: LabOptions = {}): Promise<Lab> {
    if (process.getuid?.() !== 0) throw new Error('network namespaces need root: run this test as root');
    await reapDeadLabs();
    const plan = planLab(newPrefix(), options);
    const agents = new Map<string, Agent>();
    try {
      buildNetwork(plan);
      const cgroup = makeCgroups(
        plan.prefix,
        plan.hosts.map((host) => host.name),
      );
      for (const host of plan.hosts) agents.set(host.name, await startAgent(host, cgroup));
      const dir = labDir(plan.prefix);
      mkdirSync(dir, { mode: 0o700 });
      return new Lab({ plan, dir, cgroup, program: options.program ?? sources, agents });
    } catch (error) {
      for (const agent of agents.values()) await agent[Symbol.asyncDispose]();
      await removeLeftovers(plan.prefix);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#agents.values()].map((agent) => agent[Symbol.asyncDispose]()));
    await removeLeftovers(this.plan.prefix);
  }

  place(name: string): Place {
    const place = this.#places.get(name);
    if (!place) throw new RangeError(`the lab has no ${name}; it has ${[...this.#places.keys()].join(', ')}`);
    return place;
  }

  /** The host that a place is on: of a pod its node. */
  hostOf(name: string): HostPlan {
    this.place(name);
    const host = this.#hosts.get(name);
    if (!host) throw new RangeError(`${name} is on no host`);
    return host;
  }

  get nodes(): readonly HostPlan[] {
    return this.plan.hosts.filter((host) => host.kind === 'node');
  }

  cgroupOf(host: string): string {
    return join(this.cgroup, host);
  }

  /** A directory for this host's pins on the machine's bpffs; it exists once somebody pins there. */
  bpfFsOf(host: string): string {
    return join(bpfFs, this.plan.prefix, host);
  }

  /** Runs `act`, which must not wait, in the network of a place: files under /proc/sys/net and child processes are there. */
  within<T>(place: string, act: () => T): T {
    return inNetns(netnsPath(this.place(place).netns), act);
  }

  /** Sends the outside host's traffic for services through this node. */
  routeOutsideThrough(node: string): void {
    const n = Number(node.slice('node-'.length));
    const lines = this.plan.families.flatMap((family) => routesThrough(this.plan, family, n));
    this.within('outside', () => runIpBatch(`${lines.join('\n')}\n`));
  }

  serve(at: string, family: Family, port: number, transport: ServerSpec['transport'] = 'TCP'): Promise<void> {
    return this.#agentOf(at).serve({ at, ip: this.place(at).addresses[family], port, transport });
  }

  /** On an address that is not the place's own plain one, or under another name. */
  serveOn(spec: ServerSpec): Promise<void> {
    return this.#agentOf(spec.at).serve(spec);
  }

  /** Ends a pod's TCP server as a program ends that was asked to: no connection that it has taken fails. */
  retire(at: string, family: Family, port: number): Promise<void> {
    return this.#agentOf(at).retire({ at, ip: this.place(at).addresses[family], port, transport: 'TCP' });
  }

  async stopServing(): Promise<void> {
    await Promise.all([...this.#agents.values()].map((agent) => agent.verbs.stopServing(null)));
  }

  dial(at: string, ip: Ip, port: number, options: DialOptions = {}): Promise<Outcome> {
    return this.#agentOf(at).dial(request(at, ip, port, options));
  }

  dialMany(
    at: string,
    ip: Ip,
    port: number,
    options: DialOptions & Pick<DialManyRequest, 'until' | 'atLeast' | 'atMost'>,
  ): Promise<Tally> {
    return this.#agentOf(at).dialMany({ ...options, ...request(at, ip, port, options) });
  }

  /** A flow that stays open, with requests on demand. */
  async open(at: string, ip: Ip, port: number, options: DialOptions = {}): Promise<Flow> {
    const agent = this.#agentOf(at);
    const name = `flow-${++this.#flows}`;
    await agent.open(name, request(at, ip, port, options));
    return {
      ask: (timeoutMs = answerTimeoutMs) => agent.ask(name, timeoutMs),
      [Symbol.asyncDispose]: () => agent.close(name),
    };
  }
  #flows = 0;

  ping(at: string, ip: Ip, timeoutMs = answerTimeoutMs): Promise<PingOutcome> {
    return this.#agentOf(at).ping(at, ip, timeoutMs);
  }

  /** Connections and requests without pause until `stop`. */
  async load(at: string, ip: Ip, port: number, options: LoadOptions = {}): Promise<RunningLoad> {
    const agent = this.#agentOf(at);
    const name = `load-${++this.#flows}`;
    const { transport = 'TCP', timeoutMs = answerTimeoutMs, fresh = 4, kept = 4, ...rest } = options;
    await agent.startLoad(name, { ...rest, at, ip, port, transport, timeoutMs, fresh, kept });
    return {
      more: (requests) => agent.moreLoad(name, requests),
      peek: () => agent.peekLoad(name),
      stop: () => agent.stopLoad(name),
    };
  }

  /**
   * Does a segment outside the window of a translated connection arrive, untranslated, when the server's end `from` sends it
   * to the client's end `to`?
   */
  async forgedArrives(from: string, fromPort: number, to: string, toPort: number, timeoutMs: number): Promise<boolean> {
    const [sender, receiver] = [this.place(from), this.place(to)].map(({ addresses }) => addresses.IPv4);
    if (sender === undefined || receiver === undefined) throw new RangeError('both places need addresses');
    const watch = `watch-${++this.#flows}`;
    await this.#agentOf(to).watchSegments(watch, to, sender);
    await this.#agentOf(from).sendForged(from, { ip: sender, port: fromPort }, { ip: receiver, port: toPort });
    return this.#agentOf(to).sawSegments(watch, timeoutMs);
  }

  /** What the driver reads back from the node's kernel, as text. */
  dumpRules(node: string, driver: string): Promise<string> {
    return this.#agentOf(node).dumpRules(this.#kernelAccess(node, driver));
  }

  /** Removes everything of the driver from the node's kernel, as `octoplane node --cleanup` does. */
  wipeRules(node: string, driver: string): Promise<void> {
    return this.#agentOf(node).wipeRules(this.#kernelAccess(node, driver));
  }

  #kernelAccess(node: string, driver: string): KernelAccess {
    return { driver, cgroupPath: this.cgroupOf(node), bpfFsPath: this.bpfFsOf(node), stateDir: this.dir };
  }

  #agentOf(place: string): Verbs {
    const agent = this.#agents.get(this.hostOf(place).name);
    if (!agent) throw new RangeError(`${place} has no agent`);
    return agent.verbs;
  }
}

export interface Flow extends AsyncDisposable {
  ask(timeoutMs?: number): Promise<Outcome>;
}

export interface RunningLoad {
  /** Waits until so many more requests have ended: the load has lived through what happened before. */
  more(requests: number): Promise<void>;
  peek(): Promise<LoadReport>;
  stop(): Promise<LoadReport>;
}

const request = (at: string, ip: Ip, port: number, options: DialOptions): DialRequest => ({
  timeoutMs: answerTimeoutMs,
  transport: 'TCP',
  ...options,
  at,
  ip,
  port,
});

function startAgent(host: HostPlan, cgroup: string): Promise<Agent> {
  return Agent.start(netnsPath(host.places[0].netns), {
    host: host.name,
    places: Object.fromEntries(host.places.map((place) => [place.name, netnsPath(place.netns)])),
    cgroup: join(cgroup, host.name),
  });
}
