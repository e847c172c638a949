import { cidrContains, familyOf, formatCidr, type Ip } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import type { DriverOptions, IcmpMode, PortRange } from '../driver.ts';

/** What the rules of one family depend on beside the rule set. */
export interface Settings {
  readonly family: Family;
  /** "0x4000/0x4000". */
  readonly mark: string;
  readonly masqueradeAll: boolean;
  /** What tells packets of pods from all others: a match for each of their networks, or for the interface they come in by. */
  readonly fromPods: readonly string[];
  readonly icmp: IcmpMode;
  readonly dropInvalid: boolean;
  /** Null: any. */
  readonly masqueradePorts: PortRange | null;
  readonly nodePorts: NodePortMatch;
  /** This node's addresses of the family; the first answers pings. */
  readonly nodeAddresses: readonly Ip[];
}

export type NodePortMatch =
  | { readonly t: 'local' }
  /** "address/length", of addresses that are local. */
  | { readonly t: 'within'; readonly cidrs: readonly string[] };

/** `found` are addresses read from the machine, for where the user names none. */
export function settingsOf(family: Family, options: DriverOptions, found: readonly Ip[]): Settings {
  const own = (ips: readonly Ip[]) => ips.filter((ip) => familyOf(ip) === family);
  const named = own(options.nodeAddresses);
  const nodeAddresses = named.length > 0 ? named : own(found);
  const bit = `0x${(2 ** options.masqueradeBit).toString(16)}`;
  return {
    family,
    mark: `${bit}/${bit}`,
    masqueradeAll: options.masqueradeAll,
    fromPods: podMatches(family, options),
    icmp: options.icmp,
    dropInvalid: options.dropInvalid,
    masqueradePorts: options.masqueradePorts ?? null,
    nodePorts: nodePortMatch(family, options, nodeAddresses),
    nodeAddresses,
  };
}

function podMatches(family: Family, { clusterCidrs, podInterfaces }: DriverOptions): readonly string[] {
  if (podInterfaces) return [`-i ${podInterfaces.name}${podInterfaces.prefix ? '+' : ''}`];
  return clusterCidrs.filter(({ ip }) => familyOf(ip) === family).map((cidr) => `-s ${formatCidr(cidr)}`);
}

function nodePortMatch(family: Family, options: DriverOptions, nodeAddresses: readonly Ip[]): NodePortMatch {
  const wanted = options.nodePortAddresses;
  if (wanted.t === 'all') return { t: 'local' };
  if (wanted.t === 'primary') return { t: 'within', cidrs: nodeAddresses.slice(0, 1).map(host) };
  return { t: 'within', cidrs: wanted.cidrs.filter(({ ip }) => familyOf(ip) === family).map(formatCidr) };
}

/** An address as iptables prints it: with its full length. */
export const host = (ip: Ip): string => (familyOf(ip) === 'IPv4' ? `${ip}/32` : `${ip}/128`);

/** Can somebody on this node be within the range (P23)? */
export const admitsNode = (settings: Settings, range: { readonly ip: Ip; readonly length: number }): boolean =>
  settings.nodeAddresses.some((ip) => cidrContains(range, ip));
