import { type ColumnName, columnNamed, columnNames } from './columns.ts';
import type { Scenario } from './scenario.ts';

/** Rows of the parity table (docs/drivers.md), in the words of kube-proxy's users. */
export const parityRows: Readonly<Record<string, string>> = {
  P1: 'ClusterIP, spread over ready endpoints',
  P2: 'Named ports, several slices',
  P3: 'The same port over TCP and UDP',
  P4: 'NodePort, without a listening socket',
  P5: 'LoadBalancer addresses on every node',
  P6: 'Short cut to load balancer addresses from inside',
  P7: 'ipMode Proxy (KEP-1860)',
  P8: 'allocateLoadBalancerNodePorts: false',
  P9: 'externalIPs',
  P10: 'ExternalName and headless Services',
  P11: 'externalTrafficPolicy Cluster',
  P12: 'externalTrafficPolicy Local',
  P13: 'internalTrafficPolicy Local',
  P14: 'Rejection without endpoints',
  P15: 'Readiness',
  P16: 'Terminating endpoints as a fallback (KEP-1669)',
  P17: 'Zone hints',
  P18: 'PreferSameZone (KEP-4444)',
  P19: 'PreferSameNode (KEP-3015)',
  P20: 'Local policies ignore hints',
  P21: 'ClientIP affinity',
  P22: 'Affinity timeout, and its end with the endpoint',
  P23: 'loadBalancerSourceRanges',
  P24: 'nodePortAddresses',
  P25: 'Node ports on localhost',
  P26: 'healthCheckNodePort',
  P27: 'healthCheckNodePort with only terminating endpoints',
  P28: 'Dual stack',
  P29: 'SCTP',
  P30: 'Stale UDP flows to an endpoint that went',
  P31: 'Stale UDP flows from before there was an endpoint',
  P32: 'UDP flows survive a restart',
  P33: 'Hairpin',
  P34: 'Source address kept inside the cluster',
  P35: 'Masquerade of who is not a pod',
  P36: 'Conntrack settings',
  P37: 'INVALID packets are dropped',
  P38: 'Wrong port of a live ClusterIP is rejected',
  P39: 'Unallocated addresses of the service range are dropped',
  P40: 'Ping of a service address',
  P41: 'service-proxy-name label',
  P42: 'headless label',
  P43: 'Nothing is programmed before everything is known',
  P44: 'Restart without a gap',
  P45: 'Repair of flushed rules',
  P46: 'Cost follows the change',
  P47: 'Change of driver, and clean-up',
  P48: '/healthz',
  P49: '/livez',
  P50: '/metrics, /proxyMode',
  P51: 'KubeProxyConfiguration',
  P52: 'IPVS schedulers and draining',
  P53: 'nftables: own table, verdict maps',
  P54: 'Events',
};

export interface ProvedElsewhere {
  readonly row: string;
  /** Test files, relative to the repository. Empty: it is not done; `why` says what is missing. */
  readonly tests: readonly string[];
  /** Why no scenario tells it. */
  readonly why: string;
  /** What those tests do not show, because it does not hold. */
  readonly lacks?: string;
  /** Default: all. */
  readonly drivers?: readonly string[];
}

/** Rows that a story of clients and Services cannot tell. */
export const provedElsewhere: readonly ProvedElsewhere[] = [
  { row: 'P37', tests: ['test/kernel/faults.test.ts'], why: 'it needs a forged packet' },
  {
    row: 'P39',
    tests: [],
    why: 'a node is not told the service range, so it cannot tell an unallocated address of it',
  },
  { row: 'P43', tests: ['test/kernel/faults.test.ts'], why: 'it is about a daemon that starts without a controller' },
  { row: 'P44', tests: ['test/kernel/hitless.test.ts'], why: 'it needs load while daemons die' },
  { row: 'P45', tests: ['test/kernel/faults.test.ts'], why: 'another program has to flush rules' },
  { row: 'P46', tests: ['test/bench/apply.ts'], why: 'it is a cost, measured by the benchmark apply' },
  {
    row: 'P47',
    tests: ['test/kernel/switch/drivers.test.ts', 'test/kernel/faults.test.ts'],
    why: 'it needs daemons with other flags',
    drivers: ['ebpf', 'nftables', 'iptables'],
  },
  {
    row: 'P47',
    tests: ['test/kernel/ipvs/farewell.guest.ts'],
    why: 'it needs daemons with other flags',
    lacks: 'a change from or to IPVS has not been tried under load',
    drivers: ['ipvs'],
  },
  { row: 'P51', tests: ['services/cli/kube-proxy/read.test.ts'], why: 'it is about a file' },
  {
    row: 'P52',
    tests: ['test/kernel/ipvs/ours.guest.ts', 'test/kernel/ipvs/farewell.guest.ts'],
    why: 'it is about one driver alone',
    drivers: ['ipvs'],
  },
  {
    row: 'P53',
    tests: ['test/scenarios/frame/nftables.nft'],
    why: 'it is about the text of one driver: the golden files show it',
    drivers: ['nftables'],
  },
  { row: 'P54', tests: ['test/kernel/faults.test.ts'], why: 'it needs a port that is taken' },
];

/** One scenario on one driver in one family. */
export interface Result {
  /** Of the matrix: a driver, or a flavour of one. */
  readonly column: ColumnName;
  readonly families: string;
  readonly scenario: string;
  readonly covers: readonly string[];
  readonly outcome: 'passed' | 'failed' | 'not done';
  readonly reason: string;
}

/** Rows that nothing covers. */
export function uncoveredRows(scenarios: readonly Scenario[]): string[] {
  const covered = new Set([...scenarios.flatMap(({ covers }) => covers), ...provedElsewhere.map(({ row }) => row)]);
  return Object.keys(parityRows).filter((row) => !covered.has(row));
}

/** docs/drivers.md: what every driver does, by the results of a test run. */
export function driverMatrix(results: readonly Result[]): string {
  const columns = columnNames.filter((name) => results.some(({ column }) => column === name));
  const notes: string[] = [];
  const cell = (row: string, column: ColumnName): string => {
    const { text, note } = judge(row, column, results);
    if (note === null) return text;
    const known = notes.indexOf(note);
    return `${text} [${known < 0 ? notes.push(note) : known + 1}]`;
  };
  const lines = Object.entries(parityRows).map(
    ([row, feature]) => `| ${row} | ${feature} | ${columns.map((column) => cell(row, column)).join(' | ')} |`,
  );
  return [
    '# What every driver does',
    '',
    'Rows are behaviours of kube-proxy, columns are drivers. Written by `node test/support/driver-matrix.ts` from the results of',
    '`npm test`: a "yes" is a story of `test/scenarios` that real clients lived through, in IPv4 and in IPv6.',
    '',
    `| row | behaviour | ${columns.join(' | ')} |`,
    `| --- | --- |${' --- |'.repeat(columns.length)}`,
    ...lines,
    '',
    ...notes.map((note, i) => `[${i + 1}] ${note}.`),
    '',
  ].join('\n');
}

function judge(
  row: string,
  column: ColumnName,
  results: readonly Result[],
): { readonly text: string; readonly note: string | null } {
  const own = results.filter((result) => result.column === column && result.covers.includes(row));
  const entries = provedElsewhere.filter((each) => each.row === row);
  const elsewhere = entries.find(({ drivers }) => drivers?.includes(columnNamed(column).driver) ?? true) ?? entries[0];
  const failed = own.filter(({ outcome }) => outcome === 'failed');
  if (failed.length > 0) return { text: '**no**', note: `fails: ${names(failed)}` };
  const missing = own.filter(({ outcome }) => outcome === 'not done');
  if (missing.length > 0)
    return {
      text: missing.length === own.length ? 'no' : 'in part',
      note: missing
        .map(({ scenario, reason }) => `${scenario}: ${reason}`)
        .filter(unique)
        .join('; '),
    };
  if (own.length > 0) return { text: 'yes', note: null };
  if (!elsewhere) return { text: 'not run', note: null };
  if (elsewhere.drivers && !elsewhere.drivers.includes(columnNamed(column).driver)) return { text: '-', note: null };
  if (elsewhere.tests.length === 0) return { text: 'no', note: elsewhere.why };
  if (elsewhere.lacks) return { text: 'in part', note: elsewhere.lacks };
  return { text: 'yes', note: `shown by ${elsewhere.tests.join(' and ')}: ${elsewhere.why}` };
}

const names = (results: readonly Result[]): string =>
  results.map(({ scenario, families }) => `${scenario} (${families})`).join(', ');
const unique = <T>(value: T, i: number, all: readonly T[]): boolean => all.indexOf(value) === i;
