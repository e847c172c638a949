import type { Family, Protocol } from '@octoplane/model/keys.ts';

/**
 * What is in `table inet octoplane`. frame.ts says what the packets meet; this file says which sets and maps carry the
 * services, and how their elements are keyed.
 *
 * No chain belongs to a service (client-IP affinity aside). A frontend is an element that names a chain which all
 * frontends with as many endpoints share; that chain draws an index and looks the endpoint up under (frontend, index). So a
 * change costs the elements that it changes, and nothing in the kernel or here grows with the number of services.
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

/** Names of the sets of one family. A node port has no address of its own, so it has maps of its own. */
export interface FamilySets {
  /** Where a new connection to (address, protocol, port) goes. */
  readonly service: string;
  /** For those behind loadBalancerSourceRanges: the same, once the client was found in its range. */
  readonly ranged: string;
  /** externalTrafficPolicy Local: for clients in the cluster, who may use every endpoint (P6), ... */
  readonly inside: string;
  /** ... and for everybody else, who gets those of this node (P12). */
  readonly outside: string;
  /** Without an endpoint: rejected or dropped (P14, P12). */
  readonly refuse: string;
  /** (address, protocol, port, index) to endpoint. Local endpoints begin at `localIndex`. */
  readonly endpoint: string;
  /** Which affinity map learns a connection to (endpoint, frontend). */
  readonly learn: string;
  readonly nodePort: string;
  readonly nodePortInside: string;
  readonly nodePortOutside: string;
  readonly nodePortRefuse: string;
  readonly nodePortEndpoint: string;
  readonly nodePortLearn: string;
  readonly clusterIp: string;
  /** Cluster IPs whose ping is answered. */
  readonly ping: string;
  /** (endpoint, endpoint): a pod that reached itself through a service. */
  readonly hairpin: string;
  readonly sourceRange: string;
}

const familySets = (n: '4' | '6'): FamilySets => ({
  service: `service${n}`,
  ranged: `ranged${n}`,
  inside: `inside${n}`,
  outside: `outside${n}`,
  refuse: `refuse${n}`,
  endpoint: `endpoint${n}`,
  learn: `learn${n}`,
  nodePort: `node-port${n}`,
  nodePortInside: `node-port-inside${n}`,
  nodePortOutside: `node-port-outside${n}`,
  nodePortRefuse: `node-port-refuse${n}`,
  nodePortEndpoint: `node-port-endpoint${n}`,
  nodePortLearn: `node-port-learn${n}`,
  clusterIp: `cluster-ip${n}`,
  ping: `ping${n}`,
  hairpin: `hairpin${n}`,
  sourceRange: `source-range${n}`,
});

export const setsOf: Readonly<Record<Family, FamilySets>> = { IPv4: familySets('4'), IPv6: familySets('6') };

/** First index of the list for the Local policy, where a frontend has two lists. */
export const localIndex = 0x8000;
/** Endpoints that one list of one frontend can have. */
export const mostEndpoints = localIndex;

export const protocolNumbers: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
export const nftProtocol = (protocol: Protocol): string => protocol.toLowerCase();

/** Chains of the frame that elements name. */
export const frameChains = {
  local: 'external-local',
  nodePortLocal: 'node-port-external-local',
  sourceRanges: 'source-ranges',
  reject: 'reject-connection',
  rejectInRange: 'reject-in-range',
  markOffCluster: 'mark-off-cluster',
  mark: 'mark-for-masquerade',
} as const;

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
    type: `type ${type}`,
    interval,
    meaning,
  });
  return [
    map(sets.service, frontend, serviceType, 'new connections to a service address'),
    map(sets.ranged, frontend, serviceType, 'the same, from a client in its loadBalancerSourceRanges'),
    map(sets.inside, frontend, serviceType, 'externalTrafficPolicy Local: clients in the cluster'),
    map(sets.outside, frontend, serviceType, 'externalTrafficPolicy Local: everybody else'),
    map(sets.refuse, frontend, serviceType, 'no endpoint to go to'),
    {
      name: sets.endpoint,
      key: [...frontend, 'index'],
      value: endpoint,
      // nft has no type name for a drawn number, hence typeof.
      type: `typeof ${header} daddr . meta l4proto . th dport . ${drawn} : ${header} daddr . th dport`,
      interval: false,
      meaning: `endpoints by service address and index, those for the Local policy from ${localIndex}`,
    },
    map(
      sets.learn,
      ['proto', ip, 'port', ip, 'port'],
      `type inet_proto . ${address} . inet_service . ${address} . inet_service`,
      'client-IP affinity: who learns a connection to (endpoint, service address)',
    ),
    map(sets.nodePort, nodePort, nodePortType, 'new connections to a node port'),
    map(sets.nodePortInside, nodePort, nodePortType, 'externalTrafficPolicy Local: clients in the cluster'),
    map(sets.nodePortOutside, nodePort, nodePortType, 'externalTrafficPolicy Local: everybody else'),
    map(sets.nodePortRefuse, nodePort, nodePortType, 'no endpoint to go to'),
    {
      name: sets.nodePortEndpoint,
      key: [...nodePort, 'index'],
      value: endpoint,
      type: `typeof meta l4proto . th dport . ${drawn} : ${header} daddr . th dport`,
      interval: false,
      meaning: `endpoints by node port and index, those for the Local policy from ${localIndex}`,
    },
    map(
      sets.nodePortLearn,
      ['proto', ip, 'port', 'port'],
      `type inet_proto . ${address} . inet_service . inet_service`,
      'client-IP affinity: who learns a connection to (endpoint, node port)',
    ),
    set(sets.clusterIp, [ip], address, 'every cluster IP: other ports are rejected'),
    set(sets.ping, [ip], address, 'cluster IPs that answer a ping'),
    set(sets.hairpin, [ip, ip], `${address} . ${address}`, 'endpoints that reached themselves'),
    set(
      sets.sourceRange,
      [...frontend, range],
      `${address} . inet_proto . inet_service . ${address}`,
      'who may use a load balancer address',
      true,
    ),
  ];
}

/** All sets and maps that are there from the first moment; affinity.ts names those that come and go. */
export const setLayouts: readonly SetLayout[] = [...layoutsOf('IPv4'), ...layoutsOf('IPv6')];

const byName = new Map(setLayouts.map((layout) => [layout.name, layout]));

export function layoutOf(name: string): SetLayout {
  const layout = byName.get(name);
  if (layout === undefined) throw new RangeError(`no set ${name} in table ${tableName}`);
  return layout;
}

export const hasLayout = (name: string): boolean => byName.has(name);
