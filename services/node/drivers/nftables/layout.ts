import type { Family, Protocol } from '@octoplane/model/keys.ts';

/**
 * What is in `table inet octoplane`. frame.ts says what packets meet; this file says which sets carry the services, and
 * how their elements are keyed.
 *
 * No chain and no verdict belongs to a service (client-IP affinity aside). A frontend is an element of the set that says what
 * kind it is; a chain that all frontends share draws an index and looks the endpoint up under (frontend, index). Verdicts would
 * be shorter to read, but the kernel checks the table for loops whenever an element with a chain is added, walking every
 * verdict map: 1.3 ms for one endpoint among 10,000 services. Plain elements are not checked, so a change costs the
 * elements that it changes, however many services there are.
 */
export const tableName = 'octoplane';

/** How a part of an element's key or value is written: as nft text, and as the kernel's bytes. */
export type Field = 'ip4' | 'ip6' | 'proto' | 'port' | 'index' | 'range4' | 'range6';

export interface SetLayout {
  readonly name: string;
  readonly key: readonly Field[];
  /** null: a set, not a map. */
  readonly value: 'verdict' | readonly Field[] | null;
  /** The type in nft's words; `typeof` where nft has no name for it. */
  readonly type: string;
  readonly interval: boolean;
  readonly meaning: string;
}

/** Names of the sets of one family. A node port has no address of its own, so it has sets of its own. */
export interface FamilySets {
  /** Cluster IPs with an endpoint. */
  readonly internal: string;
  /** External and load balancer addresses with externalTrafficPolicy Cluster. */
  readonly external: string;
  /** The same with externalTrafficPolicy Local. */
  readonly externalLocal: string;
  /** Without an endpoint: `return` to be rejected, `drop` to be dropped (P14, P12). */
  readonly refuse: string;
  /** Load balancer addresses with loadBalancerSourceRanges, ... */
  readonly guarded: string;
  /** ... and who may use them. */
  readonly sourceRange: string;
  /** (frontend, index) to endpoint. The list for the Local policy begins at `localIndex`. */
  readonly endpoint: string;
  /** (frontend, n): it has more than n endpoints. */
  readonly wide: string;
  /** Client-IP affinity: who remembers the clients of a frontend, ... */
  readonly sticky: string;
  /** ... those outside the cluster of one with externalTrafficPolicy Local, ... */
  readonly stickyLocal: string;
  /** ... which endpoints may be remembered, and ... */
  readonly member: string;
  /** ... by whom. */
  readonly learn: string;
  readonly nodePort: string;
  readonly nodePortLocal: string;
  readonly nodePortRefuse: string;
  readonly nodePortEndpoint: string;
  readonly nodePortWide: string;
  readonly nodePortSticky: string;
  readonly nodePortStickyLocal: string;
  readonly nodePortMember: string;
  readonly nodePortLearn: string;
  /** Every cluster IP: its other ports are rejected (P38). */
  readonly clusterIp: string;
  /** Cluster IPs whose ping is answered. */
  readonly ping: string;
}

const familySets = (n: '4' | '6'): FamilySets => ({
  internal: `internal${n}`,
  external: `external${n}`,
  externalLocal: `external-local${n}`,
  refuse: `refuse${n}`,
  guarded: `guarded${n}`,
  sourceRange: `source-range${n}`,
  endpoint: `endpoint${n}`,
  wide: `wide${n}`,
  sticky: `sticky${n}`,
  stickyLocal: `sticky-local${n}`,
  member: `member${n}`,
  learn: `learn${n}`,
  nodePort: `node-port${n}`,
  nodePortLocal: `node-port-local${n}`,
  nodePortRefuse: `node-port-refuse${n}`,
  nodePortEndpoint: `node-port-endpoint${n}`,
  nodePortWide: `node-port-wide${n}`,
  nodePortSticky: `node-port-sticky${n}`,
  nodePortStickyLocal: `node-port-sticky-local${n}`,
  nodePortMember: `node-port-member${n}`,
  nodePortLearn: `node-port-learn${n}`,
  clusterIp: `cluster-ip${n}`,
  ping: `ping${n}`,
});

export const setsOf: Readonly<Record<Family, FamilySets>> = { IPv4: familySets('4'), IPv6: familySets('6') };

/** First index of the list for the Local policy, where a frontend has two lists. */
export const localIndex = 0x8000;
/** Endpoints that one list of one frontend can have. */
export const mostEndpoints = localIndex;

export const protocolNumbers: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
export const nftProtocol = (protocol: Protocol): string => protocol.toLowerCase();

function layoutsOf(family: Family): SetLayout[] {
  const v6 = family === 'IPv6';
  const [ip, range]: [Field, Field] = v6 ? ['ip6', 'range6'] : ['ip4', 'range4'];
  const address = v6 ? 'ipv6_addr' : 'ipv4_addr';
  const header = v6 ? 'ip6' : 'ip';
  const sets = setsOf[family];
  const frontend: Field[] = [ip, 'proto', 'port'];
  const nodePort: Field[] = ['proto', 'port'];
  const endpoint: Field[] = [ip, 'port'];
  const serviceType = `type ${address} . inet_proto . inet_service`;
  const nodePortType = 'type inet_proto . inet_service';
  const drawn = 'numgen random mod 2';
  const map = (name: string, key: Field[], type: string, meaning: string): SetLayout => ({
    name,
    key,
    value: 'verdict',
    type: `${type} : verdict`,
    interval: false,
    meaning,
  });
  const set = (name: string, key: Field[], type: string, meaning: string, interval = false): SetLayout => ({
    name,
    key,
    value: null,
    type,
    interval,
    meaning,
  });
  const affinity = 'client-IP affinity';
  return [
    set(sets.internal, frontend, serviceType, 'cluster IPs with an endpoint'),
    set(sets.external, frontend, serviceType, 'external and load balancer IPs'),
    set(sets.externalLocal, frontend, serviceType, 'the same with externalTrafficPolicy Local'),
    map(sets.refuse, frontend, serviceType, 'no endpoint: return rejects, drop drops'),
    set(sets.guarded, frontend, serviceType, 'load balancer IPs with source ranges'),
    set(sets.sourceRange, [...frontend, range], `${serviceType} . ${address}`, 'who may use a guarded IP', true),
    {
      name: sets.endpoint,
      key: [...frontend, 'index'],
      value: endpoint,
      // nft has no type name for a drawn number, hence typeof.
      type: `typeof ${header} daddr . meta l4proto . th dport . ${drawn} : ${header} daddr . th dport`,
      interval: false,
      meaning: `endpoints by frontend and index, those of this node from ${localIndex}`,
    },
    {
      name: sets.wide,
      key: [...frontend, 'index'],
      value: null,
      type: `typeof ${header} daddr . meta l4proto . th dport . ${drawn}`,
      interval: false,
      meaning: `frontends with more endpoints than this, of this node from ${localIndex}`,
    },
    map(sets.sticky, frontend, serviceType, `${affinity}: who remembers the clients`),
    map(sets.stickyLocal, frontend, serviceType, `${affinity}: for endpoints of this node`),
    set(
      sets.member,
      ['proto', ip, 'port', ip, 'port'],
      `type inet_proto . ${address} . inet_service . ${address} . inet_service`,
      `${affinity}: endpoints by protocol, with their frontend`,
    ),
    map(sets.learn, frontend, serviceType, `${affinity}: who learns the clients`),
    set(sets.nodePort, nodePort, nodePortType, 'node ports with an endpoint'),
    set(sets.nodePortLocal, nodePort, nodePortType, 'the same with externalTrafficPolicy Local'),
    map(sets.nodePortRefuse, nodePort, nodePortType, 'no endpoint: return rejects, drop drops'),
    {
      name: sets.nodePortEndpoint,
      key: [...nodePort, 'index'],
      value: endpoint,
      type: `typeof meta l4proto . th dport . ${drawn} : ${header} daddr . th dport`,
      interval: false,
      meaning: `endpoints by node port and index, those of this node from ${localIndex}`,
    },
    {
      name: sets.nodePortWide,
      key: [...nodePort, 'index'],
      value: null,
      type: `typeof meta l4proto . th dport . ${drawn}`,
      interval: false,
      meaning: `node ports with more endpoints than this, of this node from ${localIndex}`,
    },
    map(sets.nodePortSticky, nodePort, nodePortType, `${affinity}: who remembers the clients`),
    map(sets.nodePortStickyLocal, nodePort, nodePortType, `${affinity}: for endpoints of this node`),
    set(
      sets.nodePortMember,
      ['proto', ip, 'port', 'port'],
      `type inet_proto . ${address} . inet_service . inet_service`,
      `${affinity}: endpoints by protocol, with their node port`,
    ),
    map(sets.nodePortLearn, nodePort, nodePortType, `${affinity}: who learns the clients`),
    set(sets.clusterIp, [ip], `type ${address}`, 'every cluster IP: other ports are rejected'),
    set(sets.ping, [ip], `type ${address}`, 'cluster IPs that answer a ping'),
  ];
}

/** All sets and maps of the services that are there from the first moment; chains.ts names those that come and go. */
export const setLayouts: readonly SetLayout[] = [...layoutsOf('IPv4'), ...layoutsOf('IPv6')];

/** A part of the frame: hairpin.ts says what is in it and why. */
export const sameByte: SetLayout = {
  name: 'same-byte',
  // Two bytes, each padded to four: as numbers in the byte order of the host.
  key: ['index', 'index'],
  value: null,
  type: 'typeof @nh,96,8 . @nh,128,8',
  interval: false,
  meaning: 'every byte, twice: are two the same?',
};

const byName = new Map([...setLayouts, sameByte].map((layout) => [layout.name, layout]));

export function layoutOf(name: string): SetLayout {
  const layout = byName.get(name);
  if (layout === undefined) throw new RangeError(`no set ${name} in table ${tableName}`);
  return layout;
}

export const hasLayout = (name: string): boolean => byName.has(name);
