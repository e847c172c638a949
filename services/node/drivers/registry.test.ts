import { describe, expect, it } from 'vitest';
import { silentLogger } from '../testing/logger.ts';
import type { DriverModule, DriverName, DriverOptions } from './driver.ts';
import { FakeKernel, fakeModule } from './fake.ts';
import { chooseDriver, cleanUpDrivers, driverRegistry, type Loader } from './registry.ts';

const options: DriverOptions = {
  logger: silentLogger,
  clusterCidrs: [],
  masqueradeAll: false,
  masqueradeBit: 14,
  nodePortAddresses: { t: 'all' },
  nodeAddresses: [],
  icmp: 'reply',
  dropInvalid: true,
  cgroupPath: '',
  bpfFsPath: '',
  stateDir: '',
};

const able = (name: DriverName, kernel = new FakeKernel()): DriverModule => ({ ...fakeModule(kernel), name });
const unable = (name: DriverName): DriverModule => ({
  ...able(name),
  probe: async () => ({ t: 'unable', lacks: [`needs kernel 9.9`] }),
});
const registry = (...modules: readonly DriverModule[]) =>
  new Map(modules.map((module): [DriverName, Loader] => [module.name, async () => module]));

describe('choosing a driver', () => {
  it('auto takes the first that can run', async () => {
    const chosen = await chooseDriver(
      registry(unable('ebpf'), able('nftables'), able('iptables')),
      'auto',
      () => options,
    );
    expect(chosen.name).toBe('nftables');
  });

  it('auto never takes IPVS', async () => {
    await expect(chooseDriver(registry(able('ipvs')), 'auto', () => options)).rejects.toThrow('no driver can run');
    expect((await chooseDriver(registry(able('ipvs')), 'ipvs', () => options)).name).toBe('ipvs');
  });

  it('says what each one lacks', async () => {
    await expect(chooseDriver(registry(unable('ebpf'), unable('nftables')), 'auto', () => options)).rejects.toThrow(
      'ebpf: needs kernel 9.9; nftables: needs kernel 9.9; iptables: is not part of this build',
    );
  });

  it('every driver of this build is listed under its own name', async () => {
    for (const [name, load] of driverRegistry) expect((await load()).name).toBe(name);
  });
});

describe('cleaning up', () => {
  it('goes on when one driver fails, and says which', async () => {
    const kernel = new FakeKernel();
    kernel.frame = true;
    const broken: DriverModule = { ...able('nftables'), open: () => Promise.reject(new Error('no library')) };
    const results = await cleanUpDrivers(registry(broken, unable('ebpf'), able('iptables', kernel)), () => options, [
      'ebpf',
      'nftables',
      'iptables',
    ]);
    expect(results.map(({ driver, t }) => `${driver} ${t}`)).toEqual([
      'ebpf not-here',
      'nftables failed',
      'iptables clean',
    ]);
    expect(kernel.frame).toBe(false);
  });
});
