import { execFileSync } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { applyChanges, changesBetween } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import { buildPrograms } from '@octoplane/node/bpf/build.ts';
import { defaultCapacity } from '@octoplane/node/drivers/ebpf/capacity.ts';
import { EbpfDriver } from '@octoplane/node/drivers/ebpf/driver.ts';
import { libbpf } from '@octoplane/node/drivers/ebpf/libbpf.ts';
import { LoadedObject, objectPath } from '@octoplane/node/drivers/ebpf/object.ts';
import { pinsUnder } from '@octoplane/node/drivers/ebpf/pins.ts';
import { enterOwnNetwork, run } from '../../contract/namespace.ts';
import { contractOptions } from '../../contract/options.ts';
import { cgroupRoot } from '../../support/lab/build.ts';

export const verdicts = { pass: 0xffffffff, drop: 2, redirect: 7 } as const;
export const packetPrograms = ['octo_outside', 'octo_inside', 'octo_leaving'] as const;
export type PacketProgram = (typeof packetPrograms)[number];

export interface Ran {
  /** 0, or what the kernel has against the packet. */
  readonly result: number;
  readonly verdict: number;
  readonly packet: Buffer;
}

/**
 * The packet programs on packets of our making (BPF_PROG_TEST_RUN), with the maps of a driver that is asked for entries as ever:
 * no network, every byte in view. Moves this process into a network namespace of its own, with the node's addresses on loopback.
 */
export class PacketPrograms implements AsyncDisposable {
  readonly driver: EbpfDriver;
  readonly mapDirectory: string;
  readonly #object: LoadedObject;
  readonly #held = new Map<ServicePortKey, Entry>();
  readonly #cleanUp: () => void;

  private constructor(driver: EbpfDriver, mapDirectory: string, cleanUp: () => void) {
    this.driver = driver;
    this.mapDirectory = mapDirectory;
    this.#object = LoadedObject.load(objectPath('packets'), mapDirectory, {});
    this.#cleanUp = cleanUp;
  }

  static async open(): Promise<PacketPrograms> {
    buildPrograms();
    enterOwnNetwork();
    const cgroupPath = join(cgroupRoot(), `octoplane-programs-${process.pid}`);
    mkdirSync(cgroupPath);
    const options = contractOptions({ cgroupPath, nodeAddresses: ['172.18.0.1', 'fd00:18::1'] });
    execFileSync('mount', ['-t', 'bpf', 'bpf', options.bpfFsPath]);
    run('ip', 'addr', 'add', '172.18.0.1/32', 'dev', 'lo');
    run('ip', 'addr', 'add', 'fd00:18::1/128', 'dev', 'lo');
    const driver = EbpfDriver.open(options, defaultCapacity);
    await driver.prune(new Map());
    return new PacketPrograms(driver, pinsUnder(options.bpfFsPath).maps, () => {
      execFileSync('umount', [options.bpfFsPath]);
      options[Symbol.dispose]();
      rmdirSync(cgroupPath);
    });
  }

  /** Makes the kernel hold these entries and no others. */
  async want(...entries: readonly Entry[]): Promise<void> {
    const changes = [...changesBetween(this.#held, new Map(entries.map((each) => [each.key, each])))];
    await this.driver.apply(changes);
    applyChanges(this.#held, changes);
  }

  programFd(name: PacketProgram): number {
    return this.#object.programFd(name);
  }

  run(name: PacketProgram, packet: Buffer): Ran {
    const output = Buffer.alloc(packet.length + 256);
    const options = {
      data_in: packet,
      data_out: output,
      data_size_in: packet.length,
      data_size_out: output.length,
      ctx_in: null,
      ctx_out: null,
      ctx_size_in: 0,
      ctx_size_out: 0,
      retval: 0,
      repeat: 1,
      duration: 0,
      flags: 0,
      cpu: 0,
      batch_size: 0,
    };
    const result = libbpf().testRun(this.programFd(name), options);
    return { result, verdict: options.retval, packet: output.subarray(0, options.data_size_out) };
  }

  /** As if all connections had ended long ago: what is chosen then is chosen anew. */
  forgetFlows(): void {
    this.wipe('flows', 40);
  }

  /** As somebody else would, with `bpftool map delete`. */
  wipe(map: string, keyBytes: number): void {
    const bpf = libbpf();
    const fd = bpf.openPin(join(this.mapDirectory, map));
    const key = Buffer.alloc(keyBytes);
    while (bpf.nextKey(fd, null, key) === 0) bpf.remove(fd, key);
    bpf.closeFd(fd);
  }

  /** What sets have left is given to others again. */
  async graceIsOver(): Promise<void> {
    while (this.driver.gauges()['ebpf_sets_in_grace'] !== 0) await setTimeout(1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#object.close();
    await this.driver.cleanup();
    await this.driver.close();
    this.#cleanUp();
  }
}
