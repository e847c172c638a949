import { join } from 'node:path';
import type { Logger } from 'pino';
import type { DriverName, DriverOptions } from './drivers/driver.ts';
import type { NodeOptions } from './options.ts';

/** What a driver is told of the node's options. */
export const driverOptions = (options: NodeOptions, name: DriverName, logger: Logger): DriverOptions => ({
  logger: logger.child({ driver: name }),
  clusterCidrs: options.clusterCidrs,
  ...(options.podInterfaces && { podInterfaces: options.podInterfaces }),
  masqueradeAll: options.masqueradeAll,
  masqueradeBit: options.masqueradeBit,
  nodePortAddresses: options.nodePortAddresses,
  nodeAddresses: options.nodeAddresses,
  icmp: options.icmp,
  dropInvalid: !options.conntrack.tcpBeLiberal,
  cgroupPath: options.cgroupPath,
  bpfFsPath: options.bpfFsPath,
  stateDir: join(options.stateDir, name),
  ipvs: options.ipvs,
});
