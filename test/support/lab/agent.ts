import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SegmentWatch, sendForged } from './forged.ts';
import { dumpRules, wipeRules } from './kernel.ts';
import { Load } from './load.ts';
import type { Outcome } from './outcome.ts';
import { ping } from './ping.ts';
import { dialSctp, serveSctp } from './sctp.ts';
import { dialTcp, serveTcp, TcpConnection } from './tcp.ts';
import { dialUdp, serveUdp, UdpFlow } from './udp.ts';
import type { AgentSetting, Call, DialRequest, Reply, ServerSpec, Tally, Verbs } from './verbs.ts';

/**
 * The one process of a host in which all its clients and servers live, pods included: the program that lab.ts forks for
 * every host. It ends when the test does, because the channel to it closes.
 */
const setting = JSON.parse(process.argv[2] ?? '') as AgentSetting;
writeFileSync(join(setting.cgroup, 'cgroup.procs'), `${process.pid}`);

const servers = new Map<string, { stop(): void | Promise<void>; retire?(): Promise<void> }>();
const flows = new Map<string, TcpConnection | UdpFlow>();
const watches = new Map<string, SegmentWatch>();
const loads = new Map<string, Load>();

const verbs: Verbs = {
  async serve(spec) {
    const key = serverKey(spec);
    if (servers.has(key)) return;
    const netns = netnsOf(spec.at);
    const name = spec.as ?? spec.at;
    if (spec.transport === 'TCP') servers.set(key, await serveTcp(netns, name, spec.ip, spec.port));
    else if (spec.transport === 'UDP') servers.set(key, { stop: await serveUdp(netns, name, spec.ip, spec.port) });
    else servers.set(key, { stop: serveSctp(netns, name, spec.ip, spec.port) });
  },

  async stopServing(spec) {
    const keys = spec === null ? [...servers.keys()] : [serverKey(spec)];
    for (const key of keys) {
      await servers.get(key)?.stop();
      servers.delete(key);
    }
  },

  async retire(spec) {
    const key = serverKey(spec);
    const { retire } = named(servers, key);
    if (!retire) throw new Error('only TCP servers retire');
    servers.delete(key);
    await retire();
  },

  dial,

  async dialMany(request) {
    const answers: Record<string, number> = {};
    const seenAs = new Set<string>();
    const failures: Outcome[] = [];
    let attempts = 0;
    // One or two at once, by chance: where endpoints take turns, clients in step would each meet the same one every time.
    // Never past a bound: whoever says how many are enough counts them.
    const left = () => (attempts < request.atLeast ? request.atLeast : request.atMost) - attempts;
    const together = () => Math.min(left(), request.bindPort || Math.random() < 0.5 ? 1 : 2);
    const isOver = () =>
      attempts >= request.atMost ||
      failures.length >= 10 ||
      (attempts >= request.atLeast && request.until.every((name) => (answers[name] ?? 0) > 0));
    while (!isOver()) {
      const outcomes = await Promise.all(Array.from({ length: together() }, () => dial(request)));
      attempts += outcomes.length;
      for (const outcome of outcomes) {
        if (outcome.t === 'answered') {
          answers[outcome.by] = (answers[outcome.by] ?? 0) + 1;
          seenAs.add(outcome.seenAs.ip);
        } else {
          failures.push(outcome);
        }
      }
    }
    return { attempts, answers, seenAs: [...seenAs], failures } satisfies Tally;
  },

  async open(name, { at, ip, port, transport, bindPort = 0, connected = false }) {
    if (flows.has(name)) throw new Error(`a flow "${name}" is open already`);
    if (transport === 'SCTP') throw new Error('flows that stay are for TCP and UDP');
    const netns = netnsOf(at);
    flows.set(
      name,
      transport === 'TCP'
        ? new TcpConnection(netns, { ip, port, bindPort })
        : new UdpFlow(netns, { ip, port, bindPort, connected }),
    );
  },

  async ask(name, timeoutMs) {
    return named(flows, name).ask(timeoutMs);
  },

  async close(name) {
    await named(flows, name).close();
    flows.delete(name);
  },

  async ping(at, ip, timeoutMs) {
    return ping(netnsOf(at), ip, timeoutMs);
  },

  async startLoad(name, request) {
    if (loads.has(name)) throw new Error(`a load "${name}" runs already`);
    const load = new Load(netnsOf(request.at), request);
    loads.set(name, load);
    load.start();
  },

  async stopLoad(name) {
    const load = named(loads, name);
    loads.delete(name);
    return load.stop();
  },

  async moreLoad(name, requests) {
    const load = named(loads, name);
    await load.reached(load.report().requests + requests);
  },

  async peekLoad(name) {
    return named(loads, name).report();
  },

  async sendForged(at, from, to) {
    sendForged(netnsOf(at), from, to);
  },

  async watchSegments(name, at, from) {
    watches.set(name, new SegmentWatch(netnsOf(at), from));
  },

  async sawSegments(name, timeoutMs) {
    const watch = named(watches, name);
    watches.delete(name);
    return watch.any(timeoutMs);
  },

  dumpRules,
  wipeRules,
};

function dial({ at, ip, port, transport, timeoutMs, bindPort = 0, bytes = 1, connected = false }: DialRequest) {
  const netns = netnsOf(at);
  const target = { ip, port, timeoutMs, bindPort, bytes };
  if (transport === 'TCP') return dialTcp(netns, target);
  return transport === 'UDP' ? dialUdp(netns, { ...target, connected }) : dialSctp(netns, target);
}

const serverKey = ({ at, ip, port, transport }: ServerSpec): string => `${at} ${transport} ${ip} ${port}`;

function netnsOf(place: string): string {
  const path = setting.places[place];
  if (path === undefined) throw new Error(`${place} is not on ${setting.host}`);
  return path;
}

function named<T>(all: ReadonlyMap<string, T>, name: string): T {
  const found = all.get(name);
  if (found === undefined) throw new Error(`there is no "${name}"`);
  return found;
}

async function answer({ id, verb, args }: Call): Promise<Reply> {
  try {
    const act = verbs[verb] as (...args: readonly unknown[]) => Promise<unknown>;
    return { id, t: 'result', value: await act(...args) };
  } catch (error) {
    return { id, t: 'error', message: error instanceof Error ? error.message : String(error) };
  }
}

process.on('message', (call: Call) => {
  void answer(call).then((reply) => process.send?.(reply));
});
process.on('disconnect', () => process.exit(0));
