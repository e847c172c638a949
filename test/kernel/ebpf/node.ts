import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { EntryChange } from '@octoplane/model/delta.ts';
import { changesBetween } from '@octoplane/model/delta.ts';
import { type ServicePortKey, serviceName, servicePortKey } from '@octoplane/model/keys.ts';
import {
  compareEndpoints,
  type Endpoint,
  type Entry,
  endpointFlags,
  type RuleSet,
  type ServicePortSpec,
} from '@octoplane/model/rule-set.ts';
import { buildPrograms, objectDir } from '@octoplane/node/bpf/build.ts';
import type { DriverOptions } from '@octoplane/node/drivers/driver.ts';
import { type Capacity, defaultCapacity } from '@octoplane/node/drivers/ebpf/capacity.ts';
import { EbpfDriver } from '@octoplane/node/drivers/ebpf/driver.ts';
import { pinsUnder } from '@octoplane/node/drivers/ebpf/pins.ts';
import pino from 'pino';
import type { Lab } from '../../support/lab/lab.ts';

/** A BPF file system of the lab's own, which goes with it. */
export function mountBpffs(lab: Lab): { readonly path: string } & Disposable {
  const path = join(lab.dir, 'bpf');
  mkdirSync(path);
  execFileSync('mount', ['-t', 'bpf', 'bpf', path]);
  return { path, [Symbol.dispose]: () => execFileSync('umount', [path]) };
}

export interface NodeSetting {
  readonly lab: Lab;
  readonly bpffs: string;
  readonly capacity?: Capacity;
  readonly options?: Partial<DriverOptions>;
}

/** The driver of one node of the lab, in this process, and the rule set that it was last asked for. */
export class EbpfNode implements AsyncDisposable {
  readonly name: string;
  readonly #setting: NodeSetting;
  #driver: EbpfDriver | null = null;
  #wanted: RuleSet = new Map();

  constructor(name: string, setting: NodeSetting) {
    buildPrograms();
    this.name = name;
    this.#setting = setting;
  }

  get driver(): EbpfDriver {
    if (!this.#driver) throw new Error(`${this.name} is not open`);
    return this.#driver;
  }

  get options(): DriverOptions {
    const bpfFsPath = join(this.#setting.bpffs, this.name);
    mkdirSync(bpfFsPath, { recursive: true });
    return {
      logger: pino({ level: 'silent' }),
      clusterCidrs: [],
      masqueradeAll: false,
      masqueradeBit: 14,
      nodePortAddresses: { t: 'all' },
      nodeAddresses: [],
      icmp: 'reply',
      dropInvalid: false,
      cgroupPath: this.#setting.lab.cgroupOf(this.name),
      bpfFsPath,
      stateDir: this.#setting.lab.dir,
      ...this.#setting.options,
    };
  }

  /** As a daemon starts: takes over, then puts the frame in place. Every step ends before `within` does. */
  async open(objects = objectDir): Promise<void> {
    await this.#within(() => {
      const pathOf = (name: string): string => join(objects, `${name}.bpf.o`);
      this.#driver = EbpfDriver.open(this.options, this.#setting.capacity ?? defaultCapacity, pathOf);
    });
    this.#wanted = await this.driver.dump();
    await this.#within(() => this.driver.prune(this.#wanted));
  }

  /** Brings the node from what it holds to this, and makes sure that the kernel says so. Returns how many entries changed. */
  async want(...entries: Entry[]): Promise<number> {
    const next: RuleSet = new Map(entries.map((entry) => [entry.key, entry]));
    const changes = [...changesBetween(this.#wanted, next)];
    await this.change(changes);
    this.#wanted = next;
    return changes.length;
  }

  async change(changes: readonly EntryChange[]): Promise<void> {
    await this.driver.apply(changes);
    const wrong = await this.driver.readBack(changes);
    if (wrong.length > 0) throw new Error(wrong.map(({ key, message }) => `${key}: ${message}`).join('; '));
  }

  /** Tags of the programs that are attached, by link: the same code has the same tag. */
  attachedPrograms(): string {
    const links = pinsUnder(this.options.bpfFsPath).links;
    const tagOf = (name: string): string => {
      const show = (...argv: string[]) =>
        JSON.parse(execFileSync('bpftool', ['-j', ...argv], { encoding: 'utf8' })) as { prog_id: number; tag: string };
      const { prog_id: id } = show('link', 'show', 'pinned', join(links, name));
      return `${name} ${show('prog', 'show', 'id', String(id)).tag}`;
    };
    return readdirSync(links).map(tagOf).join('\n');
  }

  prune(): Promise<number> {
    return this.#within(() => this.driver.prune(this.#wanted));
  }

  async close(): Promise<void> {
    await this.#driver?.close();
    this.#driver = null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #within<T>(act: () => T): T {
    return this.#setting.lab.within(this.name, act);
  }
}

export const everywhere = endpointFlags.cluster;
export const here = endpointFlags.cluster | endpointFlags.local;

/** "10.244.1.10:8080", "[fd00:244:1::a]:8080". */
export function endpoint(text: string, flags: number = everywhere): Endpoint {
  const colon = text.lastIndexOf(':');
  return { ip: text.slice(0, colon).replace(/[[\]]/g, ''), port: Number(text.slice(colon + 1)), flags };
}

export interface Wanted extends Partial<ServicePortSpec> {
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP';
  readonly port?: number;
  readonly endpoints?: readonly Endpoint[];
}

export function entry(name: string, { protocol = 'TCP', port = 80, endpoints = [], ...spec }: Wanted): Entry {
  const usable = (v6: boolean) => endpoints.some(({ ip }) => ip.includes(':') === v6);
  return {
    key: keyOf(name, port, protocol),
    spec: {
      clusterIps: [],
      externalIps: [],
      loadBalancerIps: [],
      nodePort: 0,
      internalPolicy: 'Cluster',
      externalPolicy: 'Cluster',
      affinityTimeoutSeconds: 0,
      sourceRanges: [],
      healthCheckNodePort: 0,
      usableFamilies: (usable(false) ? 1 : 0) | (usable(true) ? 2 : 0),
      ...spec,
    },
    endpoints: [...endpoints].sort(compareEndpoints),
  };
}

export const keyOf = (name: string, port = 80, protocol: 'TCP' | 'UDP' | 'SCTP' = 'TCP'): ServicePortKey =>
  servicePortKey(serviceName('default', name), port, protocol);
