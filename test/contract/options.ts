import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseCidr } from '@octoplane/model/address.ts';
import type { DriverOptions } from '@octoplane/node/drivers/driver.ts';
import { silentLogger } from '@octoplane/node/testing/logger.ts';

/** Options as on a node of the address plan, in directories of this process's own. */
export function contractOptions(changed: Partial<DriverOptions> = {}): DriverOptions & Disposable {
  const stateDir = mkdtempSync(join(tmpdir(), `octoplane-contract-${process.pid}-`));
  const bpfFsPath = join(stateDir, 'bpf');
  mkdirSync(bpfFsPath);
  return {
    logger: silentLogger,
    clusterCidrs: ['10.244.0.0/16', 'fd00:244::/32'].flatMap((text) => parseCidr(text) ?? []),
    masqueradeAll: false,
    masqueradeBit: 14,
    nodePortAddresses: { t: 'all' },
    nodeAddresses: [],
    icmp: 'reply',
    dropInvalid: true,
    cgroupPath: '/sys/fs/cgroup',
    bpfFsPath,
    stateDir,
    ...changed,
    [Symbol.dispose]: () => rmSync(stateDir, { recursive: true }),
  };
}
