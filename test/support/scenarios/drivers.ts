import { type DriverName, type DriverOptions, driverNames } from '@octoplane/node/drivers/driver.ts';
import { driverRegistry } from '@octoplane/node/drivers/registry.ts';
import pino from 'pino';

export interface TestedDriver {
  readonly name: DriverName;
  /** Why it cannot be tested on this machine; null: it can. */
  readonly lacks: string | null;
}

/** Those of OCTOPLANE_TEST_DRIVERS, or every driver that is part of the build. One that was asked for must be able to run. */
export async function driversToTest(): Promise<readonly TestedDriver[]> {
  const asked = process.env['OCTOPLANE_TEST_DRIVERS']?.split(',').map((name) => name.trim());
  const tested: TestedDriver[] = [];
  for (const name of driverNames) {
    if (asked && !asked.includes(name)) continue;
    const module = await driverRegistry.get(name)?.();
    if (!module) {
      if (asked) throw new Error(`OCTOPLANE_TEST_DRIVERS names ${name}, which is not part of this build`);
      continue;
    }
    const probe = await module.probe(probeOptions);
    const lacks = probe.t === 'able' ? null : probe.lacks.join('; ');
    if (asked && lacks !== null)
      throw new Error(`OCTOPLANE_TEST_DRIVERS names ${name}, which cannot run here: ${lacks}`);
    tested.push({ name, lacks });
  }
  return tested;
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
