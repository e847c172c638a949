import type { Ip } from '@octoplane/model/address.ts';
import type { Outcome, Peer, Transport } from './outcome.ts';
import type { PingOutcome } from './ping.ts';

/** What a test may ask of the agent of a host. Messages between the test and the agent are calls of these verbs. */
export interface Verbs {
  /** Starts a server; one that is already there is left as it is. */
  serve(server: ServerSpec): Promise<void>;
  /** Stops one server, or all of this host's. Absent is no error. */
  stopServing(server: ServerSpec | null): Promise<void>;
  /** Ends a TCP server as a program ends that was asked to. */
  retire(server: ServerSpec): Promise<void>;
  dial(request: DialRequest): Promise<Outcome>;
  /** Dials until everybody in `until` has answered and at least `atLeast` times, at most `atMost` times. */
  dialMany(request: DialManyRequest): Promise<Tally>;
  /** Opens a flow that stays; the name is the caller's. */
  open(flow: string, request: DialRequest): Promise<void>;
  /** A request on an open flow. */
  ask(flow: string, timeoutMs: number): Promise<Outcome>;
  close(flow: string): Promise<void>;
  ping(at: string, ip: Ip, timeoutMs: number): Promise<PingOutcome>;
  /** Connections and requests without pause, until `stopLoad`. */
  startLoad(name: string, request: LoadRequest): Promise<void>;
  stopLoad(name: string): Promise<LoadReport>;
  /** Returns once so many more requests have ended. */
  moreLoad(name: string, requests: number): Promise<void>;
  /** Figures so far, without stopping. */
  peekLoad(name: string): Promise<LoadReport>;
  /** Sends TCP segments that belong to no window of the connection between the two. */
  sendForged(at: string, from: Peer, to: Peer): Promise<void>;
  /** Counts TCP segments from this address that arrive at a place, until `sawSegments`. */
  watchSegments(watch: string, at: string, from: Ip): Promise<void>;
  sawSegments(watch: string, timeoutMs: number): Promise<boolean>;
  /** What a driver reads back from this host's kernel, as text: an entry to a line, sorted. */
  dumpRules(driver: KernelAccess): Promise<string>;
  /** Removes everything of a driver from this host's kernel. */
  wipeRules(driver: KernelAccess): Promise<void>;
}

/** Enough for a driver to find its own in the kernel. */
export interface KernelAccess {
  readonly driver: string;
  readonly cgroupPath: string;
  readonly bpfFsPath: string;
  readonly stateDir: string;
}

export interface ServerSpec {
  /** The place: a pod or the host itself. Also what the server answers. */
  readonly at: string;
  readonly ip: Ip;
  readonly port: number;
  readonly transport: Transport;
  /** What the server calls itself; default: its place. */
  readonly as?: string;
}

export interface DialRequest {
  /** The place of the client. */
  readonly at: string;
  readonly ip: Ip;
  readonly port: number;
  readonly transport: Transport;
  readonly timeoutMs: number;
  /** Source port; 0 or absent: any. */
  readonly bindPort?: number;
  /** Size of the request; default 1. */
  readonly bytes?: number;
  /** UDP: connect(2) the socket first; default false. */
  readonly connected?: boolean;
}

export interface DialManyRequest extends DialRequest {
  readonly until: readonly string[];
  readonly atLeast: number;
  readonly atMost: number;
}

/** Outcomes of many attempts. */
export interface Tally {
  readonly attempts: number;
  /** How often each server answered. */
  readonly answers: Readonly<Record<string, number>>;
  /** Client addresses that servers saw. */
  readonly seenAs: readonly Ip[];
  /** The first outcomes that were no answer, at most ten. */
  readonly failures: readonly Outcome[];
}

export interface LoadRequest extends Omit<DialRequest, 'bindPort' | 'transport'> {
  readonly transport: 'TCP' | 'UDP';
  /** Workers that open a connection, ask once and close it. */
  readonly fresh: number;
  /** Connections that are opened once and kept, with one request after the other. */
  readonly kept: number;
}

export interface LoadReport {
  readonly connections: number;
  readonly requests: number;
  readonly failures: number;
  /** The first failures, at most ten, with the number of the request. */
  readonly firstFailures: readonly string[];
  readonly answers: Readonly<Record<string, number>>;
}

export type Call = { readonly id: number; readonly verb: keyof Verbs; readonly args: readonly unknown[] };
export type Reply =
  | { readonly id: number; readonly t: 'result'; readonly value: unknown }
  | { readonly id: number; readonly t: 'error'; readonly message: string };

/** Given to an agent as its only argument, in JSON. */
export interface AgentSetting {
  readonly host: string;
  /** Places of this host by name, with the path of their network namespace. */
  readonly places: Readonly<Record<string, string>>;
  /** cgroup v2 directory that the agent moves itself into, so that programs attached there see its sockets. */
  readonly cgroup: string;
}
