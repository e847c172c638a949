import { type Cidr, familyOf, formatCidr, type Ip } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import type { IcmpMode, NodePortAddresses, PodInterfaces, PortRange } from '../driver.ts';
import { balanceName, balances } from './chains.ts';
import { families } from './frontends.ts';
import { masqueradeWith, ourHairpin, sameAddress, sameBytesText } from './hairpin.ts';
import { sameByte, setLayouts, setsOf, tableName } from './layout.ts';

/** What the frame follows from. */
export interface FrameOptions {
  readonly clusterCidrs: readonly Cidr[];
  readonly podInterfaces?: PodInterfaces;
  readonly masqueradeAll: boolean;
  readonly masqueradeBit: number;
  readonly nodePortAddresses: NodePortAddresses;
  /** The node's own addresses, at most one per family is used for pings. */
  readonly nodeAddresses: readonly Ip[];
  readonly icmp: IcmpMode;
  /** P37. */
  readonly dropInvalid: boolean;
  readonly masqueradePorts?: PortRange;
}

interface ChainText {
  readonly name: string;
  readonly rules: readonly string[];
}

interface Hook extends ChainText {
  readonly type: 'nat' | 'filter';
  readonly hook: 'prerouting' | 'output' | 'postrouting' | 'forward';
  readonly priority: string;
  /** As the kernel has it. */
  readonly priorityNumber: number;
}

const ip = (family: Family): string => (family === 'IPv4' ? 'ip' : 'ip6');
const nfproto = (family: Family): string => (family === 'IPv4' ? 'ipv4' : 'ipv6');
const frontend = (family: Family): string => `${ip(family)} daddr . meta l4proto . th dport`;
const nodePort = (family: Family): string => `meta nfproto ${nfproto(family)} meta l4proto . th dport`;
const hex = (value: number): string => `0x${(value >>> 0).toString(16).padStart(8, '0')}`;
const both = (rule: (family: Family) => string | readonly string[]): string[] => families.flatMap(rule);

/** The table with all sets and maps, those of the services empty. Harmless where they are there. */
export function setsText(): string {
  const declarations = [...setLayouts, sameByte].map((layout) => {
    const word = layout.value === null ? 'set' : 'map';
    const flags = layout.interval ? ' flags interval;' : '';
    return `  ${word} ${layout.name} { ${layout.type};${flags} comment "${layout.meaning}"; }\n`;
  });
  return (
    `table inet ${tableName} {\n  comment "services of Kubernetes, kept by octoplane"\n${declarations.join('')}}\n` +
    sameBytesText()
  );
}

/**
 * The chains that are always there, without the hooks: nothing is live before hooksText. The chains are emptied and filled again in one
 * transaction, so this may be given to the kernel while they are in use. The chains that balance are only declared: chains.ts
 * has them.
 */
export function chainsText(options: FrameOptions): string {
  const chains = frameChainsOf(options);
  const entrances = balances.map((balance) => balanceName(balance));
  const declared = [...entrances, ...chains.map(({ name }) => name)];
  return (
    `table inet ${tableName} {\n${declared.map((name) => `  chain ${name} { }\n`).join('')}}\n` +
    chains.map(({ name }) => `flush chain inet ${tableName} ${name}\n`).join('') +
    `table inet ${tableName} {\n${chains.map(chainText).join('')}}\n`
  );
}

/** The base chains. Priorities are those that kube-proxy documents, so that what works beside it works beside this. */
export function hooksText(): string {
  const declare = (hook: Hook): string =>
    `  chain ${hook.name} { type ${hook.type} hook ${hook.hook} priority ${hook.priority}; policy accept; }\n`;
  return (
    `table inet ${tableName} {\n${hooks.map(declare).join('')}}\n` +
    hooks.map(({ name }) => `flush chain inet ${tableName} ${name}\n`).join('') +
    `table inet ${tableName} {\n${hooks.map(chainText).join('')}}\n`
  );
}

/** For a base chain that is there with another hook or priority, which cannot be changed. */
export const removeHookText = (name: string): string =>
  `flush chain inet ${tableName} ${name}\ndelete chain inet ${tableName} ${name}\n`;

const chainText = ({ name, rules }: ChainText): string =>
  `  chain ${name} {\n${rules.map((rule) => `    ${rule}\n`).join('')}  }\n`;

export const hooks: readonly Hook[] = [
  {
    name: 'prerouting',
    type: 'nat',
    hook: 'prerouting',
    priority: 'dstnat',
    priorityNumber: -100,
    rules: ['jump dispatch'],
  },
  { name: 'output', type: 'nat', hook: 'output', priority: '-100', priorityNumber: -100, rules: ['jump dispatch'] },
  {
    name: 'postrouting',
    type: 'nat',
    hook: 'postrouting',
    // Before the masquerading of others, which would end the way here: what they masquerade is learned, too.
    priority: 'srcnat - 5',
    priorityNumber: 95,
    rules: ['ct status dnat jump learn', 'jump masquerading'],
  },
  {
    name: 'filter-prerouting',
    type: 'filter',
    hook: 'prerouting',
    // After the destinations: what was not translated by then will not be.
    priority: 'dstnat + 10',
    priorityNumber: -90,
    rules: ['ct state new jump refuse'],
  },
  {
    name: 'filter-output',
    type: 'filter',
    hook: 'output',
    priority: '-90',
    priorityNumber: -90,
    rules: ['ct state new jump refuse'],
  },
  {
    name: 'filter-forward',
    type: 'filter',
    hook: 'forward',
    priority: 'filter',
    priorityNumber: 0,
    rules: ['jump drop-invalid'],
  },
];

/** Chains of the frame, but for the hooks. */
export const frameChainNames: readonly string[] = [
  'mark-for-masquerade',
  'mark-off-cluster',
  'anywhere',
  'node-port-anywhere',
  'internal',
  'external',
  'external-local-node',
  'external-local',
  'node-port',
  'node-port-local-node',
  'node-port-local',
  'at-node4',
  'at-node6',
  'dispatch',
  'learn',
  'hairpin4',
  'hairpin6',
  'masquerading',
  'reject-connection',
  'unserved',
  'refuse',
  'drop-invalid',
];

/** In an order in which each names only those before it. */
function frameChainsOf(options: FrameOptions): ChainText[] {
  const bit = 2 ** options.masqueradeBit;
  const mark = `meta mark set meta mark | ${hex(bit)}`;
  return [
    { name: 'mark-for-masquerade', rules: [mark] },
    { name: 'mark-off-cluster', rules: markOffCluster(options, mark) },
    {
      name: 'anywhere',
      rules: [...both((family) => `${frontend(family)} vmap @${setsOf[family].sticky}`), 'goto balance-4'],
    },
    {
      name: 'node-port-anywhere',
      rules: [
        ...both((family) => `${nodePort(family)} vmap @${setsOf[family].nodePortSticky}`),
        'goto node-port-balance-4',
      ],
    },
    { name: 'internal', rules: ['jump mark-off-cluster', 'goto anywhere'] },
    { name: 'external', rules: [...outOfRange, 'jump mark-for-masquerade', 'goto anywhere'] },
    ...local('external-local', 'anywhere', options, [
      ...both((family) => `${frontend(family)} vmap @${setsOf[family].stickyLocal}`),
      'jump local-balance-4',
    ]),
    { name: 'node-port', rules: ['jump mark-for-masquerade', 'goto node-port-anywhere'] },
    ...local('node-port-local', 'node-port-anywhere', options, [
      ...both((family) => `${nodePort(family)} vmap @${setsOf[family].nodePortStickyLocal}`),
      'jump node-port-local-balance-4',
    ]),
    ...families.map((family) => ({
      name: `at-node${family === 'IPv4' ? 4 : 6}`,
      rules: [
        `${nodePort(family)} @${setsOf[family].nodePort} goto node-port`,
        `${nodePort(family)} @${setsOf[family].nodePortLocal} goto node-port-local`,
      ],
    })),
    { name: 'dispatch', rules: dispatch(options) },
    { name: 'learn', rules: both(learning) },
    ...families.map((family) => ({ name: hairpinName(family), rules: ourHairpin(family, options.masqueradePorts) })),
    { name: 'masquerading', rules: masquerading(bit, options.masqueradePorts) },
    {
      name: 'reject-connection',
      rules: ['meta l4proto tcp reject with tcp reset', 'reject with icmpx port-unreachable'],
    },
    { name: 'unserved', rules: unserved(options) },
    { name: 'refuse', rules: ['ct status dnat return', 'jump unserved', ...outOfRange, 'goto reject-connection'] },
    // The peer of an untranslated packet knows no such connection and resets a good one (P37).
    { name: 'drop-invalid', rules: options.dropInvalid ? ['ct state invalid drop'] : [] },
  ];
}

/** P23. */
const outOfRange: readonly string[] = both((family) => {
  const { guarded, sourceRange } = setsOf[family];
  return `${frontend(family)} @${guarded} ${frontend(family)} . ${ip(family)} saddr != @${sourceRange} drop`;
});

/** Clients that are not pods: the cluster does not know the way back to them, or they must not see a pod's address (P35). */
function markOffCluster(options: FrameOptions, mark: string): string[] {
  if (options.masqueradeAll) return [mark];
  if (options.podInterfaces) return [`iifname != ${interfaceName(options.podInterfaces)} ${mark}`];
  return both((family) => {
    const cidrs = cidrsOf(options.clusterCidrs, family);
    return cidrs === '' ? [] : [`${ip(family)} saddr != ${cidrs} ${mark}`];
  });
}

const interfaceName = ({ name, prefix }: PodInterfaces): string => `"${name}${prefix ? '*' : ''}"`;

/** Pods, leaving by a verdict. */
function fromPods({ clusterCidrs, podInterfaces }: FrameOptions, verdict: string): string[] {
  if (podInterfaces) return [`iifname ${interfaceName(podInterfaces)} ${verdict}`];
  return both((family) => {
    const cidrs = cidrsOf(clusterCidrs, family);
    return cidrs === '' ? [] : [`${ip(family)} saddr ${cidrs} ${verdict}`];
  });
}

/**
 * Pods and the node itself may go to every endpoint (P6); everybody else to those of this node, with the source kept, and nowhere when
 * there are none (P12).
 */
function local(name: string, anywhere: string, options: FrameOptions, outside: readonly string[]): ChainText[] {
  return [
    { name: `${name}-node`, rules: ['jump mark-for-masquerade', `goto ${anywhere}`] },
    {
      name,
      rules: [
        ...(name === 'external-local' ? outOfRange : []),
        ...fromPods(options, `goto ${anywhere}`),
        `fib saddr type local goto ${name}-node`,
        ...outside,
        'drop',
      ],
    },
  ];
}

function dispatch(options: FrameOptions): string[] {
  return [
    ...both((family) => `${frontend(family)} @${setsOf[family].internal} goto internal`),
    ...both((family) => `${frontend(family)} @${setsOf[family].external} goto external`),
    ...both((family) => `${frontend(family)} @${setsOf[family].externalLocal} goto external-local`),
    ...both((family) => {
      const address = options.nodeAddresses.find((own) => familyOf(own) === family);
      if (options.icmp !== 'reply' || address === undefined) return [];
      // The node itself answers; connection tracking gives the answer the address that was asked.
      return [`${echoRequest(family)} ${ip(family)} daddr @${setsOf[family].ping} dnat ${ip(family)} to ${address}`];
    }),
    ...both((family) => atNode(options, family).map((guard) => `${guard} goto at-node${family === 'IPv4' ? 4 : 6}`)),
  ];
}

/** Conditions under which a packet is for a node port (P24); none: never. Loopback is for kube-proxy's iptables mode alone (P25). */
function atNode(options: FrameOptions, family: Family): string[] {
  const notLoopback = family === 'IPv4' ? 'ip daddr != 127.0.0.0/8' : 'ip6 daddr != ::1';
  const wanted = options.nodePortAddresses;
  switch (wanted.t) {
    case 'all':
      return [`meta nfproto ${nfproto(family)} fib daddr type local ${notLoopback}`];
    case 'primary': {
      const address = options.nodeAddresses.find((own) => familyOf(own) === family);
      return address === undefined ? [] : [`${ip(family)} daddr ${address}`];
    }
    case 'cidrs': {
      const cidrs = cidrsOf(wanted.cidrs, family);
      return cidrs === '' ? [] : [`${ip(family)} daddr ${cidrs} fib daddr type local ${notLoopback}`];
    }
  }
}

/**
 * A connection to (endpoint, frontend) as it leaves, before its source is translated. nft wants the transport protocol
 * named before it takes `ct original proto-dst`, hence a rule for each.
 */
function learning(family: Family): string[] {
  const sets = setsOf[family];
  const original = `ct original ${ip(family)} daddr`;
  const port = 'ct original proto-dst';
  return ['tcp', 'udp', 'sctp'].flatMap((proto) => {
    const endpoint = `meta l4proto ${proto} meta l4proto . ${ip(family)} daddr . th dport`;
    return [
      `${endpoint} . ${original} . ${port} @${sets.member} ${original} . meta l4proto . ${port} vmap @${sets.learn}`,
      `${endpoint} . ${port} @${sets.nodePortMember} meta l4proto . ${port} vmap @${sets.nodePortLearn}`,
    ];
  });
}

const hairpinName = (family: Family): string => `hairpin${family === 'IPv4' ? 4 : 6}`;

function masquerading(bit: number, ports: PortRange | undefined): string[] {
  const marked = `meta mark & ${hex(bit)} != 0 meta mark set meta mark & ${hex(~bit)}`;
  return [
    ...(ports === undefined ? [] : [`meta l4proto { tcp, udp, sctp } ${marked} ${masqueradeWith(ports)}`]),
    `${marked} ${masqueradeWith(undefined)}`,
    ...both((family) => `ct status dnat ${sameAddress(family)} jump ${hairpinName(family)}`),
  ];
}

/** nat chains cannot reject, so whatever they left as it was is judged here. Comes back with what is to be rejected. */
function unserved(options: FrameOptions): string[] {
  return [
    ...both((family) => `${frontend(family)} vmap @${setsOf[family].refuse}`),
    ...both((family) =>
      atNode(options, family).map((guard) => `${guard} meta l4proto . th dport vmap @${setsOf[family].nodePortRefuse}`),
    ),
    ...both((family) => {
      const answer = options.icmp === 'drop' ? 'drop' : 'reject with icmpx host-unreachable';
      return `${echoRequest(family)} ${ip(family)} daddr @${setsOf[family].clusterIp} ${answer}`;
    }),
    ...both((family) => `${ip(family)} daddr @${setsOf[family].clusterIp} return`),
    'accept',
  ];
}

const echoRequest = (family: Family): string =>
  family === 'IPv4' ? 'icmp type echo-request' : 'icmpv6 type echo-request';

/** One range plainly, several as a set; empty when there are none of the family. */
function cidrsOf(cidrs: readonly Cidr[], family: Family): string {
  const texts = cidrs.filter((cidr) => familyOf(cidr.ip) === family).map(formatCidr);
  if (texts.length === 0) return '';
  return texts.length === 1 ? `${texts[0]}` : `{ ${texts.join(', ')} }`;
}
