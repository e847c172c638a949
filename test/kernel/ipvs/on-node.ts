import { closeSync, openSync } from 'node:fs';
import { type Cidr, parseCidr } from '@octoplane/model/address.ts';
import type { EntryChange } from '@octoplane/model/delta.ts';
import { parseServicePortKey, type ServicePortKey } from '@octoplane/model/keys.ts';
import { compareEndpoints, type Endpoint, type Entry, type ServicePortSpec } from '@octoplane/model/rule-set.ts';
import type { Driver, DriverOptions } from '@octoplane/node/drivers/driver.ts';
import { ipvs } from '@octoplane/node/drivers/ipvs/module.ts';
import koffi from 'koffi';
import { pino } from 'pino';
import { Lab } from '../../support/lab/lab.ts';
import { clusterCidrs } from '../../support/lab/plan.ts';

const setns: (fd: number, type: number) => number = koffi.load('libc.so.6').func('int setns(int fd, int nstype)');

/** A lab, with the driver on node-1: this process's own network is node-1's as long as the lab lives. */
export class NodeLab implements AsyncDisposable {
  readonly lab: Lab;
  readonly #home: number;
  #options: DriverOptions;
  #driver: Driver;

  private constructor(lab: Lab, home: number, options: DriverOptions, driver: Driver) {
    this.lab = lab;
    this.#home = home;
    this.#options = options;
    this.#driver = driver;
  }

  static async create(changed: Partial<DriverOptions> = {}): Promise<NodeLab> {
    const lab = await Lab.create({ nodes: 2 });
    const home = openSync('/proc/thread-self/ns/net', 'r');
    enter(`/run/netns/${lab.place('node-1').netns}`);
    const options = { ...plainOptions(lab.dir), ...changed };
    return new NodeLab(lab, home, options, await ipvs.open(options));
  }

  get driver(): Driver {
    return this.#driver;
  }

  /** Another instance of the driver, as after a restart of the daemon. */
  async restart(changed: Partial<DriverOptions> = {}): Promise<Driver> {
    await this.#driver.close();
    this.#options = { ...this.#options, ...changed };
    this.#driver = await ipvs.open(this.#options);
    return this.#driver;
  }

  /** What a daemon does with a delta. */
  async apply(...changes: readonly EntryChange[]): Promise<void> {
    await this.#driver.apply(changes);
    const mismatches = await this.#driver.readBack(changes);
    if (mismatches.length > 0) throw new Error(mismatches.map(({ key, message }) => `${key}: ${message}`).join('\n'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#driver.close();
    enterFd(this.#home);
    closeSync(this.#home);
    await this.lab[Symbol.asyncDispose]();
  }
}

function enter(path: string): void {
  const fd = openSync(path, 'r');
  enterFd(fd);
  closeSync(fd);
}

function enterFd(fd: number): void {
  if (setns(fd, 0) !== 0) throw new Error(`setns: errno ${koffi.errno()}`);
}

export const plainOptions = (stateDir: string): DriverOptions => ({
  logger: pino({ level: 'silent' }),
  clusterCidrs: Object.values(clusterCidrs).map(cidr),
  masqueradeAll: false,
  masqueradeBit: 14,
  nodePortAddresses: { t: 'all' },
  nodeAddresses: [],
  icmp: 'reply',
  dropInvalid: true,
  cgroupPath: '/sys/fs/cgroup',
  bpfFsPath: '/sys/fs/bpf',
  stateDir,
});

export function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed) throw new RangeError(`${text} is not a network`);
  return parsed;
}

/** An entry with what matters to a test. `endpoints`: "10.244.1.10:8080", both policies' unless told otherwise. */
export function entryOf(
  key: string,
  spec: Partial<ServicePortSpec>,
  endpoints: readonly (string | { readonly at: string; readonly flags: number })[],
): Entry {
  if (!parseServicePortKey(key)) throw new RangeError(`${key} is not a service port`);
  const parsed = endpoints.map((each): Endpoint => {
    const { at, flags } = typeof each === 'string' ? { at: each, flags: 3 } : each;
    const colon = at.lastIndexOf(':');
    return { ip: at.slice(0, colon), port: Number(at.slice(colon + 1)), flags };
  });
  const usable = parsed.reduce((mask, { ip, flags }) => (flags === 8 ? mask : mask | (ip.includes(':') ? 2 : 1)), 0);
  return {
    key: key as ServicePortKey,
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
      usableFamilies: usable,
      ...spec,
    },
    endpoints: parsed.sort(compareEndpoints),
  };
}

export const changeOf = (before: Entry | null, after: Entry | null): EntryChange => {
  const key = before?.key ?? after?.key;
  if (key === undefined) throw new RangeError('a change has a before or an after');
  return { key, before, after };
};
