import { createHash } from 'node:crypto';
import { type Cidr, familyOf, formatCidr } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import type { IcmpMode } from '../driver.ts';
import { type SetRole, setSpec } from './set-names.ts';

/**
 * What IPVS does not do itself, as a handful of iptables rules for each family that never change: everything that does
 * change is in the sets they look into. They see the first packet of a connection only.
 *
 *   mangle  who may come in (source ranges), where clients in the cluster are sent, what is dropped in silence
 *   nat     which connections get the node's address as their source, so that answers come back through it
 *   filter  what a service address says on ports and to pings that are not a frontend's
 *
 * IPVS takes packets at LOCAL_IN behind filter INPUT, and at LOCAL_OUT behind nat OUTPUT but before filter OUTPUT, where alone the
 * node's own connections could be rejected. It refuses those to a service without destinations itself, but TCP misses that
 * while it is still sending, and asks again only after a second. So a frontend without endpoints has no virtual service: its
 * packets come in again through lo, and meet the rules for everybody's.
 */
export interface RuleOptions {
  readonly clusterCidrs: readonly Cidr[];
  readonly masqueradeAll: boolean;
  readonly masqueradeBit: number;
  readonly icmp: IcmpMode;
  readonly dropInvalid: boolean;
}

export interface TableRules {
  readonly table: 'mangle' | 'nat' | 'filter';
  /** Our chains with their rules, without "-A CHAIN". */
  readonly chains: ReadonlyMap<string, readonly string[]>;
  /** Rules in chains that belong to everybody, to be the first there. */
  readonly jumps: readonly { readonly chain: string; readonly rule: string }[];
}

/** Not OCTO-, by which the iptables driver knows its own. */
export const chainPrefix = 'OCTOIPVS-';

export function rulesFor(family: Family, options: RuleOptions): readonly TableRules[] {
  const rules = [mangleRules(family, options), natRules(family, options), filterRules(family, options)];
  const digest = createHash('sha256')
    .update(JSON.stringify(rules.map(plain)))
    .digest('hex')
    .slice(0, 12);
  // Rules that a newer or otherwise configured version wrote are told by the comment of the jump to them.
  return rules.map(({ jumps, ...rest }) => ({
    ...rest,
    jumps: jumps.map(({ chain, rule }) => ({ chain, rule: `-m comment --comment "octoplane ${digest}" ${rule}` })),
  }));
}

const plain = ({ table, chains, jumps }: TableRules) => [table, [...chains], jumps];

function mangleRules(family: Family, { clusterCidrs }: RuleOptions): TableRules {
  const inCluster = ofFamily(clusterCidrs, family).map((cidr) => `-s ${formatCidr(cidr)} -g ${chainPrefix}NEAR`);
  const ranges = `${on(family, 'ranged', 'dst,dst')} ${on(family, 'sources', 'dst,dst,src', '! ')} -j DROP`;
  const away = on(family, 'away', 'dst,dst');
  const notNear = on(family, 'near', 'dst,dst', '! ');
  const toAll = `-j SET --map-set ${setSpec('near', family).name} dst,dst --map-mark`;
  const chains = new Map([
    // The node's own packets in the second rule are those without a virtual service, which have come in again through lo.
    [
      `${chainPrefix}PRE`,
      [ranges, `-m addrtype --src-type LOCAL -g ${chainPrefix}NEAR`, ...inCluster, `${away} -j DROP`],
    ],
    [`${chainPrefix}NEAR`, [`${notNear} ${away} -j DROP`, toAll]],
    // What else is dropped for want of endpoints here is so after it has come in again through lo: here the sender would be told, by
    // an error of its system call. TCP is not told; and where connections of the last endpoint drain, IPVS would refuse.
    [`${chainPrefix}OUT`, [ranges, `-p tcp ${notNear} ${away} -j DROP`, toAll]],
  ]);
  const jump = (chain: string, to: string) => ({ chain, rule: `-m conntrack --ctstate NEW -j ${chainPrefix}${to}` });
  return { table: 'mangle', chains, jumps: [jump('PREROUTING', 'PRE'), jump('OUTPUT', 'OUT')] };
}

function natRules(family: Family, { clusterCidrs, masqueradeAll, masqueradeBit }: RuleOptions): TableRules {
  const bit = `0x${(2 ** masqueradeBit).toString(16)}`;
  const mark = `-j MARK --set-xmark ${bit}/${bit}`;
  const internal = on(family, 'internal', 'dst,dst');
  const cidrs = ofFamily(clusterCidrs, family).map(formatCidr);
  const internalRules = masqueradeAll
    ? [`${internal} ${mark}`]
    : cidrs.length === 0
      ? []
      : [...cidrs.map((cidr) => `-s ${cidr} -j RETURN`), `${internal} ${mark}`];
  const masquerade = '-j MASQUERADE --random-fully';
  const chains = new Map([
    [`${chainPrefix}NAT`, [`${on(family, 'external', 'dst,dst')} ${mark}`, ...internalRules]],
    [
      `${chainPrefix}POST`,
      [
        // The node's own connections that began at a service address.
        `! -o lo ${on(family, 'address', 'src')} ${masquerade}`,
        // An endpoint that reaches itself: the answer must not take the short way.
        `! -o lo -m bpf --bytecode "${sourceIsDestination(family)}" ${masquerade}`,
        `-m mark ! --mark ${bit}/${bit} -j RETURN`,
        `-j MARK --set-xmark 0x0/${bit}`,
        masquerade,
      ],
    ],
  ]);
  const rule = `-j ${chainPrefix}NAT`;
  return {
    table: 'nat',
    chains,
    jumps: [
      { chain: 'PREROUTING', rule },
      { chain: 'OUTPUT', rule },
      { chain: 'POSTROUTING', rule: `-j ${chainPrefix}POST` },
    ],
  };
}

function filterRules(family: Family, { icmp, dropInvalid }: RuleOptions): TableRules {
  const icmpProtocol = family === 'IPv4' ? 'icmp' : 'ipv6-icmp';
  const echo = family === 'IPv4' ? '-p icmp -m icmp --icmp-type 8' : '-p ipv6-icmp -m icmp6 --icmpv6-type 128';
  const unreachable = family === 'IPv4' ? 'icmp-host-unreachable' : 'icmp6-addr-unreachable';
  const port = family === 'IPv4' ? 'icmp-port-unreachable' : 'icmp6-port-unreachable';
  const pingRules =
    icmp === 'drop'
      ? [`${echo} -j DROP`]
      : [
          ...(icmp === 'reply' ? [`${echo} ${on(family, 'ping', 'dst')} -j RETURN`] : []),
          `${echo} -j REJECT --reject-with ${unreachable}`,
        ];
  const frontends = (['internal', 'external', 'local'] as const).map(
    (role) => `${on(family, role, 'dst,dst')} -j RETURN`,
  );
  const chains = new Map([
    [
      `${chainPrefix}IN`,
      [
        ...pingRules,
        `-p ${icmpProtocol} -j RETURN`,
        `${on(family, 'none', 'dst,dst')} -g ${chainPrefix}REJECT`,
        ...frontends,
        `-g ${chainPrefix}REJECT`,
      ],
    ],
    [`${chainPrefix}REJECT`, ['-p tcp -j REJECT --reject-with tcp-reset', `-j REJECT --reject-with ${port}`]],
  ]);
  const jumps = [
    { chain: 'INPUT', rule: `-m conntrack --ctstate NEW ${on(family, 'address', 'dst')} -j ${chainPrefix}IN` },
  ];
  if (dropInvalid) {
    chains.set(`${chainPrefix}INVALID`, ['-j DROP']);
    jumps.push({ chain: 'FORWARD', rule: `-m conntrack --ctstate INVALID -j ${chainPrefix}INVALID` });
  }
  return { table: 'filter', chains, jumps };
}

const on = (family: Family, role: SetRole, directions: string, not = ''): string =>
  `-m set ${not}--match-set ${setSpec(role, family).name} ${directions}`;

const ofFamily = (cidrs: readonly Cidr[], family: Family): Cidr[] => cidrs.filter(({ ip }) => familyOf(ip) === family);

/**
 * Classic BPF (bpf(4)), as `nfbpf_compile` prints it: load words of the source, compare each with its destination's, 1 when all are
 * equal. No other match of iptables compares two fields of a packet.
 */
function sourceIsDestination(family: Family): string {
  const words = family === 'IPv4' ? 1 : 4;
  const source = family === 'IPv4' ? 12 : 8;
  const length = 4 * words;
  const code: string[] = [];
  for (let word = 0; word < words; word++) {
    const at = source + 4 * word;
    // ld [destination]; tax; ld [source]; jeq x, 0, to the last instruction
    code.push(`32 0 0 ${at + length}`, '7 0 0 0', `32 0 0 ${at}`, `29 0 ${4 * (words - word) - 3} 0`);
  }
  code.push('6 0 0 1', '6 0 0 0');
  return [code.length, ...code].join(',');
}
