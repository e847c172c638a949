import { spawnSync } from 'node:child_process';
import { mkdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { compareEndpoints, type Endpoint, type Entry, endpointFlags } from '@octoplane/model/rule-set.ts';
import type { DriverName } from '@octoplane/node/drivers/driver.ts';
import { driverRegistry } from '@octoplane/node/drivers/registry.ts';
import { enterOwnNetwork, run } from '../contract/namespace.ts';
import { contractOptions } from '../contract/options.ts';
import { bpfFs, cgroupRoot } from '../support/lab/build.ts';

/** The process of one measurement of apply.ts; answers over IPC. */
export type ApplyTask =
  | {
      readonly t: 'driver';
      readonly driver: DriverName;
      /** The iptables driver is to use the legacy flavour. */
      readonly legacy: boolean;
      readonly services: number;
      readonly endpoints: number;
    }
  | { readonly t: 'contrast'; readonly services: number; readonly endpoints: number };

export interface ApplyFigures {
  readonly coldLoadMs: number;
  readonly applyMs: number;
  readonly readBackMs: number;
  readonly pruneMs: number;
  readonly coldLoadCpuMs: number;
  readonly heapMb: number;
  readonly medianMs: number;
  readonly p99Ms: number;
  readonly dumpMs: number;
}

export interface Contrast {
  readonly loaded: boolean;
  readonly loadMs: number;
  readonly changeMs: number | null;
}

/** Changes measured, unless they take longer than this all together. */
const changesWanted = 2000;
const changesMs = 20_000;
const warmUps = 50;
/** After which the other layout's load is given up. */
const contrastMs = 120_000;

const task = JSON.parse(process.argv[2] ?? '') as ApplyTask;
enterOwnNetwork();
const figures = task.t === 'driver' ? await measure(task) : contrast(task.services, task.endpoints);
process.send?.(figures, () => process.disconnect());

/** Where the ebpf driver attaches and pins; the others look at neither. */
function bpfPlaces(): { readonly options: { cgroupPath: string; bpfFsPath: string } } & Disposable {
  const name = `octoplane-apply-${process.pid}`;
  const options = { cgroupPath: join(cgroupRoot(), name), bpfFsPath: join(bpfFs, name) };
  mkdirSync(options.cgroupPath);
  return {
    options,
    [Symbol.dispose]: () => {
      rmSync(options.bpfFsPath, { recursive: true, force: true });
      rmdirSync(options.cgroupPath);
    },
  };
}

async function measure({
  driver: name,
  legacy,
  services,
  endpoints,
}: Extract<ApplyTask, { t: 'driver' }>): Promise<ApplyFigures> {
  using places = bpfPlaces();
  using options = contractOptions(places.options);
  // What kubelet leaves in the flavour that the host uses.
  if (legacy) run('iptables-legacy', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT');
  const module = await driverRegistry.get(name)?.();
  if (module === undefined) throw new RangeError(`there is no driver "${name}"`);
  const probe = await module.probe(options);
  if (probe.t === 'unable') throw new Error(`the ${name} driver cannot run here: ${probe.lacks.join('; ')}`);
  const ruleSet = new Map<ServicePortKey, Entry>();
  for (let i = 0; i < services; i++) {
    const entry = entryOf(i, endpoints);
    ruleSet.set(entry.key, entry);
  }
  const driver = await module.open(options);
  await driver.dump();
  const loaded = [...ruleSet.values()].map((after): EntryChange => ({ key: after.key, before: null, after }));
  gc?.();
  const heapBefore = process.memoryUsage().heapUsed;

  const cpu = process.cpuUsage();
  const start = performance.now();
  await driver.apply(loaded);
  const applied = performance.now();
  const wrong = await driver.readBack(loaded);
  const readBack = performance.now();
  await driver.prune(ruleSet);
  const pruned = performance.now();
  const used = process.cpuUsage(cpu);
  if (wrong.length > 0) throw new Error(`read back: ${wrong[0]?.message}`);
  gc?.();
  const heapMb = (process.memoryUsage().heapUsed - heapBefore) / 1e6;

  const times: number[] = [];
  const keys = [...ruleSet.keys()];
  const deadline = performance.now() + changesMs;
  for (let i = 0; i < changesWanted + warmUps && performance.now() < deadline; i++) {
    const key = keys[(i * 7919) % keys.length];
    const before = key === undefined ? undefined : ruleSet.get(key);
    if (key === undefined || before === undefined) break;
    const after = { ...before, endpoints: changed(before.endpoints, endpoints, i) };
    const changes = [{ key, before, after }];
    const from = performance.now();
    await driver.apply(changes);
    const mismatches = await driver.readBack(changes);
    // A slow driver is warm sooner.
    if (i >= warmUps || from > deadline - changesMs * 0.8) times.push(performance.now() - from);
    if (mismatches.length > 0) throw new Error(`read back: ${mismatches[0]?.message}`);
    ruleSet.set(key, after);
  }
  times.sort((a, b) => a - b);
  const dumping = performance.now();
  const found = await driver.dump();
  const dumpMs = performance.now() - dumping;
  if (found.size !== services) throw new Error(`${found.size} of ${services} entries are in the kernel`);
  await driver.cleanup();
  await driver.close();
  return {
    coldLoadMs: pruned - start,
    applyMs: applied - start,
    readBackMs: readBack - applied,
    pruneMs: pruned - readBack,
    coldLoadCpuMs: (used.user + used.system) / 1000,
    heapMb,
    medianMs: times[times.length >> 1] ?? Number.NaN,
    p99Ms: times[Math.floor(times.length * 0.99)] ?? Number.NaN,
    dumpMs,
  };
}

function entryOf(i: number, endpoints: number): Entry {
  return {
    key: `default/svc-${i}:80/TCP` as ServicePortKey,
    spec: {
      clusterIps: [`10.${96 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`],
      externalIps: [],
      loadBalancerIps: [],
      nodePort: 0,
      internalPolicy: 'Cluster',
      externalPolicy: 'Cluster',
      affinityTimeoutSeconds: 0,
      sourceRanges: [],
      healthCheckNodePort: 0,
      usableFamilies: 1,
    },
    endpoints: Array.from({ length: endpoints }, (_, j) => endpointOf(i * endpoints + j)).sort(compareEndpoints),
  };
}

/** One after another in 10.128.0.0/9. */
function endpointOf(n: number): Endpoint {
  return { ip: `10.${128 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`, port: 8080, flags: endpointFlags.cluster };
}

/** One endpoint less, or one more when one is lacking: as a rolling update does. */
function changed(held: readonly Endpoint[], usual: number, i: number): readonly Endpoint[] {
  if (held.length >= usual) return held.filter((_, at) => at !== i % held.length);
  const fresh = endpointOf(4_000_000 + i);
  return [...held, fresh].sort(compareEndpoints);
}

/**
 * The usual layout, as kube-proxy's nftables mode has it: a chain for each service port with an anonymous map from a drawn number to a
 * chain for each endpoint, loaded and changed by nft(8).
 */
function contrast(services: number, endpoints: number): Contrast {
  const lines = ['table ip contrast {', '  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }'];
  const elements: string[] = [];
  for (let i = 0; i < services; i++) {
    const { clusterIps, endpoints: list } = {
      ...entryOf(i, endpoints).spec,
      endpoints: entryOf(i, endpoints).endpoints,
    };
    for (const [j, endpoint] of list.entries()) {
      lines.push(`  chain endpoint-${i}-${j} { meta l4proto tcp dnat to ${endpoint.ip}:${endpoint.port}; }`);
    }
    lines.push(`  chain service-${i} { ${contrastRule(i, endpoints)}; }`);
    elements.push(`${clusterIps[0]} . tcp . 80 : goto service-${i}`);
  }
  lines.push('  chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }');
  lines.push('  chain prerouting { type nat hook prerouting priority dstnat; jump services; }', '}');
  lines.push(`add element ip contrast service-ips { ${elements.join(', ')} }`);
  const start = performance.now();
  const load = nft(`${lines.join('\n')}\n`);
  const loadMs = performance.now() - start;
  if (!load) return { loaded: false, loadMs, changeMs: null };
  const times: number[] = [];
  const deadline = performance.now() + changesMs;
  for (let i = 0; i < 20 && performance.now() < deadline; i++) {
    const service = (i * 7919) % services;
    const from = performance.now();
    const changedWell = nft(
      `flush chain ip contrast service-${service}\n` +
        `add rule ip contrast service-${service} ${contrastRule(service, endpoints - 1)}\n`,
    );
    if (!changedWell) break;
    times.push(performance.now() - from);
  }
  times.sort((a, b) => a - b);
  return { loaded: true, loadMs, changeMs: times[times.length >> 1] ?? null };
}

function contrastRule(service: number, endpoints: number): string {
  const choices = Array.from({ length: endpoints }, (_, j) => `${j} : goto endpoint-${service}-${j}`);
  return `numgen random mod ${endpoints} vmap { ${choices.join(', ')} }`;
}

/** False when it was given up. */
function nft(text: string): boolean {
  const done = spawnSync('nft', ['-f', '-'], { input: text, encoding: 'utf8', timeout: contrastMs });
  if (done.error) return false;
  if (done.status !== 0) throw new Error(`nft: ${done.stderr.slice(0, 500)}`);
  return true;
}
