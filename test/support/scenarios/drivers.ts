import { type DriverName, type DriverOptions, driverNames } from '@octoplane/node/drivers/driver.ts';
import { driverRegistry } from '@octoplane/node/drivers/registry.ts';
import pino from 'pino';

export interface TestedDriver {
  readonly name: DriverName;
  /** Why it cannot be tested on this machine; null: it can. */
  readonly lacks: string | null;
}

/**
 * Those of OCTOPLANE_TEST_DRIVERS ("all": every driver of the build), by default nftables: all of them together take longer than a
 * test run may, and what is known to fail on the others is in the README. One that was asked for by name must be able to run.
 */
export async function driversToTest(): Promise<readonly TestedDriver[]> {
  const all = await allDrivers();
  const asked = (process.env['OCTOPLANE_TEST_DRIVERS'] ?? 'nftables').split(',').map((name) => name.trim());
  if (asked.includes('all')) return all;
  return asked.map((name) => {
    const driver = all.find((each) => each.name === name);
    if (!driver) throw new Error(`OCTOPLANE_TEST_DRIVERS names ${name}, which is not part of this build`);
    if (driver.lacks !== null)
      throw new Error(`OCTOPLANE_TEST_DRIVERS names ${name}, which cannot run here: ${driver.lacks}`);
    return driver;
  });
}

/** Every driver that is part of the build. */
export async function allDrivers(): Promise<readonly TestedDriver[]> {
  const drivers: TestedDriver[] = [];
  for (const name of driverNames) {
    const module = await driverRegistry.get(name)?.();
    if (!module) continue;
    const probe = await module.probe(probeOptions);
    drivers.push({ name, lacks: probe.t === 'able' ? null : probe.lacks.join('; ') });
  }
  return drivers;
}

/** What a driver sees in the lab; only the directories differ from node to node. */
export const probeOptions: DriverOptions = {
  logger: pino({ level: 'silent' }),
  clusterCidrs: [],
  masqueradeAll: false,
  masqueradeBit: 14,
  nodePortAddresses: { t: 'all' },
  nodeAddresses: [],
  icmp: 'reply',
  dropInvalid: true,
  cgroupPath: '/sys/fs/cgroup/unified',
  bpfFsPath: '/sys/fs/bpf',
  stateDir: '/tmp',
};
