import { familyOf, type Ip, parseCidr } from '@octoplane/model/address.ts';
import { parseServicePortKey, type ServicePortKey } from '@octoplane/model/keys.ts';
import {
  type Endpoint,
  type Entry,
  endpointFlags,
  familyBit,
  type ServicePortSpec,
} from '@octoplane/model/rule-set.ts';
import { type Frontend, frontendsOf, noteText, usesCluster, usesLocal } from './frontends.ts';
import { frameNames, keyHash, type ServiceChainKind, serviceChain } from './names.ts';
import { admitsNode, host, type Settings } from './settings.ts';

/**
 * An entry as rules of one family, pure. Every rule is written exactly as iptables-save prints it, so that what was asked
 * for and what the kernel has are compared as text.
 */
export interface ServiceRules {
  /** Chains of this service port alone, in the nat table: what follows "-A CHAIN ". */
  readonly chains: ReadonlyMap<string, readonly string[]>;
  readonly catches: readonly Catch[];
}

/** The rules that catch one frontend, for the trees over addresses and node ports. */
export interface Catch {
  readonly key: ServicePortKey;
  readonly frontend: Frontend;
  readonly protocol: string;
  /** Service port, or node port. */
  readonly port: number;
  /** In the nat table: on to the service port's chains. */
  readonly translate: string;
  /** In the filter table: what happens to a packet that was not translated; null: the tree has nothing to say. */
  readonly refuse: string | null;
  /** A ping of the address is to be answered. */
  readonly answersPing: boolean;
}

export function serviceRules(entry: Entry, settings: Settings): ServiceRules {
  const { family } = settings;
  const { key, spec } = entry;
  const frontends = frontendsOf(spec, family);
  const chains = new Map<string, readonly string[]>();
  const service: Rendering = {
    key,
    spec,
    settings,
    protocol: protocolOf(key),
    cluster: chosen(entry, settings, endpointFlags.cluster),
    local: chosen(entry, settings, endpointFlags.local),
    usable: (spec.usableFamilies & familyBit(family)) !== 0,
    ranges: spec.sourceRanges.filter((range) => familyOf(range) === family),
  };
  const chain = (kind: ServiceChainKind, lines: readonly string[]) => chains.set(serviceChain(kind, key), lines);
  if (frontends.some(usesCluster)) chain('SVC', clusterChain(service));
  if (frontends.some(usesLocal)) chain('LOC', localChain(service, frontends));
  if (frontends.some(({ kind }) => kind !== 'clusterIP')) chain('EXT', externalChain(service));
  const balanced = frontends.flatMap(({ kind, ip }) => (kind === 'loadBalancerIP' && ip !== null ? [ip] : []));
  if (balanced.length > 0 && service.ranges.length > 0) chain('RNG', rangesChain(service, balanced));
  return { chains, catches: frontends.map((frontend) => caught(service, frontend)) };
}

interface Rendering {
  readonly key: ServicePortKey;
  readonly spec: ServicePortSpec;
  readonly settings: Settings;
  /** "tcp". */
  readonly protocol: string;
  readonly cluster: readonly Endpoint[];
  readonly local: readonly Endpoint[];
  readonly usable: boolean;
  readonly ranges: readonly string[];
}

export function protocolOf(key: ServicePortKey): string {
  return identify(key).protocol.toLowerCase();
}

function identify(key: ServicePortKey) {
  const id = parseServicePortKey(key);
  if (id === null) throw new RangeError(`${key} is not NAMESPACE/NAME:PORT/PROTOCOL`);
  return id;
}

const chosen = (entry: Entry, settings: Settings, flag: number): readonly Endpoint[] =>
  entry.endpoints.filter(({ ip, flags }) => (flags & flag) !== 0 && familyOf(ip) === settings.family);

/** Is a source that is not a pod masqueraded on its way to a service address (P35)? */
export const masqueradesOffCluster = (settings: Settings): boolean =>
  settings.masqueradeAll || settings.fromPods.length > 0;

/** Whoever is sent here without being marked is a pod, or comes to a cluster IP: the check is right for both. */
function clusterChain(service: Rendering): readonly string[] {
  const check = masqueradesOffCluster(service.settings) ? [`-j ${frameNames.offCluster}`] : [];
  return [...check, ...choice(service, service.cluster)];
}

/** External clients keep their address under the Local policy (P12), so only the cluster IPs ask who is there. */
function localChain(service: Rendering, frontends: readonly Frontend[]): readonly string[] {
  const checks = masqueradesOffCluster(service.settings)
    ? frontends.flatMap(({ kind, ip, policy }) =>
        kind === 'clusterIP' && policy === 'Local' && ip !== null ? [`-d ${host(ip)} -j ${frameNames.offCluster}`] : [],
      )
    : [];
  return [...checks, ...choice(service, service.local)];
}

function externalChain({ key, spec, settings }: Rendering): readonly string[] {
  const cluster = serviceChain('SVC', key);
  if (spec.externalPolicy === 'Cluster') return [`-j ${frameNames.masquerade}`, `-j ${cluster}`];
  const fromNode = '-m addrtype --src-type LOCAL';
  return [
    ...settings.fromPods.map((match) => `${match} -j ${cluster}`),
    `${fromNode} -j ${frameNames.masquerade}`,
    `${fromNode} -j ${cluster}`,
    `-j ${serviceChain('LOC', key)}`,
  ];
}

/**
 * P23. Who is in no range is not translated, and dropped in the filter table. Where a load balancer address is also bound
 * on this node its own clients come from that very address: they are let in when the node is.
 */
function rangesChain({ key, settings, ranges }: Rendering, balanced: readonly Ip[]): readonly string[] {
  const admitted = `-j ${serviceChain('EXT', key)}`;
  const nodeIsIn = ranges.some((range) => {
    const cidr = parseCidr(range);
    return cidr !== null && admitsNode(settings, cidr);
  });
  return [
    // iptables-save prints no source that is everybody.
    ...ranges.map((range) => (everybody.has(range) ? admitted : `-s ${range} ${admitted}`)),
    ...(nodeIsIn ? balanced.map((ip) => `-s ${host(ip)} -m comment --comment "this node" ${admitted}`) : []),
  ];
}

const everybody = new Set(['0.0.0.0/0', '::/0']);

/**
 * The random choice: the i-th of n rules takes one in n-i of what comes to it. With affinity, rules come first that know
 * the client; the list is one endpoint's, so that an endpoint that goes takes its clients' memory with it (P22), and shared
 * by both policies, so that a client stays where it is whichever frontend it uses.
 */
function choice({ key, spec, protocol, settings }: Rendering, endpoints: readonly Endpoint[]): readonly string[] {
  const seconds = spec.affinityTimeoutSeconds;
  const hash = seconds === 0 ? '' : keyHash(key);
  const list = (endpoint: Endpoint) =>
    `--name OCTO-${hash}-${endpoint.ip}-${endpoint.port} --mask ${masks[settings.family]} --rsource`;
  const lines: string[] = [];
  if (seconds !== 0) {
    for (const endpoint of endpoints)
      lines.push(
        `-p ${protocol} -m recent --update --seconds ${seconds} --reap ${list(endpoint)} ${translation(endpoint)}`,
      );
  }
  endpoints.forEach((endpoint, i) => {
    const random = randomMatch(endpoints.length - i);
    const learn = seconds === 0 ? '' : `-m recent --set ${list(endpoint)} `;
    lines.push(`-p ${protocol} ${random}${learn}${translation(endpoint)}`);
  });
  return lines;
}

const masks = { IPv4: '255.255.255.255', IPv6: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff' } as const;

const translation = ({ ip, port }: Endpoint): string =>
  `-j DNAT --to-destination ${ip.includes(':') ? `[${ip}]` : ip}:${port}`;

const randomMatches: string[] = [];

/** xt_statistic keeps a probability as a multiple of 2^-31, and iptables-save prints that multiple to 11 digits. */
function randomMatch(oneIn: number): string {
  if (oneIn === 1) return '';
  randomMatches[oneIn] ??=
    `-m statistic --mode random --probability ${(Math.round(2 ** 31 / oneIn) / 2 ** 31).toFixed(11)} `;
  return randomMatches[oneIn];
}

function caught(service: Rendering, frontend: Frontend): Catch {
  const { key, spec, protocol, settings } = service;
  const { kind, ip, policy } = frontend;
  const port = ip === null ? spec.nodePort : identify(key).port;
  const { usableFamilies, affinityTimeoutSeconds } = spec;
  const note = noteText({ key, kind, policy, usableFamilies, affinityTimeoutSeconds });
  const match =
    `${ip === null ? '' : `-d ${host(ip)} `}-p ${protocol} -m ${protocol} --dport ${port} ` +
    `-m comment --comment "${note}"`;
  const verdict = refusal(service, frontend);
  return {
    key,
    frontend,
    protocol,
    port,
    translate: `${match} -j ${entrance(service, frontend)}`,
    refuse: verdict === null ? null : `${match} -j ${verdict}`,
    answersPing: kind === 'clusterIP' && service.usable && settings.icmp === 'reply',
  };
}

function entrance({ key, ranges }: Rendering, { kind, policy }: Frontend): string {
  if (kind === 'clusterIP') return serviceChain(policy === 'Cluster' ? 'SVC' : 'LOC', key);
  return serviceChain(kind === 'loadBalancerIP' && ranges.length > 0 ? 'RNG' : 'EXT', key);
}

/**
 * P12 to P14: no endpoint anywhere is an error that a client learns at once, no endpoint for this policy is silence. A
 * cluster IP is refused as a whole (P38), so its ports are named only where silence is due.
 */
function refusal(service: Rendering, { kind, policy }: Frontend): string | null {
  const none = (policy === 'Cluster' ? service.cluster : service.local).length === 0;
  if (!service.usable && none) return kind === 'clusterIP' ? null : frameNames.reject;
  if (none) return 'DROP';
  return kind === 'loadBalancerIP' && service.ranges.length > 0 ? 'DROP' : null;
}
