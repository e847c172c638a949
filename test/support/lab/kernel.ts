import type { Entry } from '@octoplane/model/rule-set.ts';
import type { Driver, DriverName } from '@octoplane/node/drivers/driver.ts';
import { driverRegistry } from '@octoplane/node/drivers/registry.ts';
import pino from 'pino';
import type { KernelAccess } from './verbs.ts';

/** Drivers opened in the agent's own process, which lives in its host's network: they read that host's kernel. */
async function withDriver<T>(access: KernelAccess, use: (driver: Driver) => Promise<T>): Promise<T> {
  const module = await driverRegistry.get(access.driver as DriverName)?.();
  if (!module) throw new Error(`there is no driver ${access.driver}`);
  const driver = await module.open({
    logger: pino({ level: 'silent' }),
    clusterCidrs: [],
    masqueradeAll: false,
    masqueradeBit: 14,
    nodePortAddresses: { t: 'all' },
    nodeAddresses: [],
    icmp: 'reply',
    dropInvalid: true,
    cgroupPath: access.cgroupPath,
    bpfFsPath: access.bpfFsPath,
    stateDir: access.stateDir,
  });
  try {
    return await use(driver);
  } finally {
    await driver.close();
  }
}

export const dumpRules = (access: KernelAccess): Promise<string> =>
  withDriver(access, async (driver) => {
    const ruleSet = await driver.dump();
    return [...ruleSet.values()].map(describeEntry).sort().join('\n');
  });

export const wipeRules = (access: KernelAccess): Promise<void> => withDriver(access, (driver) => driver.cleanup());

const describeEntry = ({ key, spec, endpoints }: Entry): string =>
  `${key} ${JSON.stringify(spec)} ${endpoints.map(({ ip, port, flags }) => `${ip} ${port} ${flags}`).join(', ')}`;
