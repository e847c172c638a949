import type { DriverName, DriverOptions } from '@octoplane/node/drivers/driver.ts';
import type { Flavour } from '@octoplane/node/drivers/iptables/tools.ts';
import { driverRegistry } from '@octoplane/node/drivers/registry.ts';
import pino from 'pino';

/**
 * What the suite is run on, a column of docs/drivers.md each: the drivers, and iptables once for each flavour. The order is that of
 * the columns.
 */
export const columnNames = ['ebpf', 'nftables', 'ipvs', 'iptables-nft', 'iptables-legacy'] as const;
export type ColumnName = (typeof columnNames)[number];

export interface Column {
  readonly name: ColumnName;
  readonly driver: DriverName;
  /**
   * The flavour that other programs on the node use, kubelet among them: what is found there decides which one the iptables
   * driver takes.
   */
  readonly flavour: Flavour;
  /** This machine's kernel may lack it; the suite is then run in a guest (test/support/uml). */
  readonly inGuest?: true;
}

export const columns: readonly Column[] = [
  { name: 'ebpf', driver: 'ebpf', flavour: 'nft' },
  { name: 'nftables', driver: 'nftables', flavour: 'nft' },
  // The guest has no nf_tables that iptables could use.
  { name: 'ipvs', driver: 'ipvs', flavour: 'legacy', inGuest: true },
  { name: 'iptables-nft', driver: 'iptables', flavour: 'nft' },
  { name: 'iptables-legacy', driver: 'iptables', flavour: 'legacy' },
];

export function columnNamed(name: string): Column {
  const column = columns.find((each) => each.name === name);
  if (!column) throw new RangeError(`there is no column ${name}; there are ${columnNames.join(', ')}`);
  return column;
}

/** Those of OCTOPLANE_TEST_DRIVERS, names parted by commas; by default all. */
export const columnsAskedFor = (): readonly Column[] =>
  columnsNamed((process.env['OCTOPLANE_TEST_DRIVERS'] ?? 'all').split(',').map((name) => name.trim()));

/**
 * By names of columns or of drivers, or "all".
 * @throws RangeError when there is none of a name
 */
export function columnsNamed(names: readonly string[]): readonly Column[] {
  if (names.includes('all')) return columns;
  for (const name of names)
    if (!columns.some((column) => isNamedBy(name, column)))
      throw new RangeError(`there is no driver ${name}; there are ${columnNames.join(', ')}`);
  return columns.filter((column) => names.some((name) => isNamedBy(name, column)));
}

const isNamedBy = (name: string, column: Column): boolean => name === column.name || name === column.driver;

/** Why the column cannot be run on this kernel; null: it can. */
export async function lackOf({ driver }: Column): Promise<string | null> {
  const module = await driverRegistry.get(driver)?.();
  if (!module) return `the driver ${driver} is not part of this build`;
  const probe = await module.probe(probeOptions);
  return probe.t === 'able' ? null : probe.lacks.join('; ');
}

/** What a driver sees in the lab; only the directories differ from node to node. */
const probeOptions: DriverOptions = {
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
