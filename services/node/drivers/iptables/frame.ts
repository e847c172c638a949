import { frameNames } from './names.ts';
import { masqueradesOffCluster } from './service.ts';
import { host, type Settings } from './settings.ts';

export type Table = 'nat' | 'filter';
/** In the order in which they are committed: filter refuses only what nat does not translate. */
export const tables: readonly Table[] = ['nat', 'filter'];

/** Chains around the rule set, in the form of service.ts. */
export function frameChains(settings: Settings): Record<Table, ReadonlyMap<string, readonly string[]>> {
  const { mark } = settings;
  const bit = mark.slice(0, mark.indexOf('/'));
  const entry = [`-j ${frameNames.addresses}`, ...nodePortRules(settings)];
  return {
    nat: new Map([
      [frameNames.services, entry],
      [frameNames.masquerade, [`-j MARK --set-xmark ${mark}`]],
      [frameNames.offCluster, offClusterRules(settings)],
      [frameNames.ping, pingRules(settings)],
      [
        frameNames.postrouting,
        [
          // An endpoint that chose itself would otherwise answer itself past the translation (P33).
          ...masquerade(
            settings,
            `-m conntrack --ctstate DNAT -m bpf --bytecode "${sourceIsDestination[settings.family]}"`,
          ),
          `-m mark ! --mark ${mark} -j RETURN`,
          // Taken off, so that a packet that is encapsulated later is not masqueraded again.
          `-j MARK --set-xmark ${bit}/0x0`,
          ...masquerade(settings),
        ],
      ],
    ]),
    filter: new Map([
      [frameNames.services, entry],
      [
        frameNames.reject,
        [
          '-p tcp -j REJECT --reject-with tcp-reset',
          `-j REJECT --reject-with ${settings.family === 'IPv4' ? 'icmp' : 'icmp6'}-port-unreachable`,
        ],
      ],
      [
        frameNames.forward,
        [
          ...(settings.dropInvalid ? ['-m conntrack --ctstate INVALID -j DROP'] : []),
          // Hosts that forward nothing by default (Docker makes them so) forward what was translated here, as with kube-proxy.
          '-m conntrack ! --ctstate DNAT -j RETURN',
          `-m mark --mark ${mark} -j ACCEPT`,
          '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
        ],
      ],
    ]),
  };
}

function masquerade({ masqueradePorts: ports }: Settings, match = ''): readonly string[] {
  const within =
    ports === null
      ? []
      : ['tcp', 'udp', 'sctp'].map(
          (protocol) => `-p ${protocol} ${match} -j MASQUERADE --to-ports ${ports.first}-${ports.last} --random-fully`,
        );
  return [...within, `${match} -j MASQUERADE --random-fully`].map((rule) => rule.replace(/ +/g, ' ').trim());
}

/** Rules of ours in chains that everybody shares; the first of them is to stand first. */
export interface Hook {
  readonly chain: string;
  readonly rule: string;
}

export const hooks: Record<Table, readonly Hook[]> = hooksOf();

function hooksOf(): Record<Table, readonly Hook[]> {
  const note = (text: string) => `-m comment --comment "octoplane: ${text}"`;
  const portals = `${note('service addresses and node ports')} -j ${frameNames.services}`;
  const refusals = `-m conntrack --ctstate NEW ${note('what was not translated')} -j ${frameNames.services}`;
  return {
    nat: [
      { chain: 'PREROUTING', rule: portals },
      { chain: 'OUTPUT', rule: portals },
      { chain: 'POSTROUTING', rule: `${note('masquerade')} -j ${frameNames.postrouting}` },
    ],
    filter: [
      { chain: 'INPUT', rule: refusals },
      { chain: 'FORWARD', rule: refusals },
      { chain: 'FORWARD', rule: `${note('forward')} -j ${frameNames.forward}` },
      { chain: 'OUTPUT', rule: refusals },
    ],
  };
}

/** Loopback is left alone: what comes from there cannot leave without route_localnet, which would open other doors (P25). */
function nodePortRules({ family, nodePorts }: Settings): readonly string[] {
  const loopback = family === 'IPv4' ? '127.0.0.0/8' : '::1/128';
  const onward = `-m addrtype --dst-type LOCAL -j ${frameNames.nodePorts}`;
  if (nodePorts.t === 'local') return [`! -d ${loopback} ${onward}`];
  return [`-d ${loopback} -j RETURN`, ...nodePorts.cidrs.map((cidr) => within(cidr, onward))];
}

const within = (cidr: string, onward: string): string =>
  cidr === '0.0.0.0/0' || cidr === '::/0' ? onward : `-d ${cidr} ${onward}`;

function offClusterRules(settings: Settings): readonly string[] {
  if (!masqueradesOffCluster(settings)) return [];
  const mark = `-j ${frameNames.masquerade}`;
  if (settings.masqueradeAll) return [mark];
  return [...settings.fromPods.map((match) => `${match} -j RETURN`), mark];
}

/**
 * REDIRECT would need an address on the device that the ping came in by, and the devices of pods often have none.
 */
function pingRules({ nodeAddresses: [own] }: Settings): readonly string[] {
  return own === undefined ? ['-j REDIRECT'] : [`-j DNAT --to-destination ${own}`];
}

/** What a ping is, as a match. */
export const pingMatch = {
  IPv4: '-p icmp -m icmp --icmp-type 8',
  IPv6: '-p ipv6-icmp -m icmp6 --icmpv6-type 128',
} as const;

export const catchAll = (ip: string): string =>
  `-d ${host(ip)} -m comment --comment "cluster IP, any other port" -j ${frameNames.reject}`;

/**
 * iptables cannot compare two fields of a packet; a classic BPF program (xt_bpf) can. A rule for each endpoint is the usual
 * way, and would double the rules. In words: load a part of the source, compare with that part of the destination, and
 * so on; 1 when all are equal, otherwise 0.
 */
function equalParts(parts: readonly (readonly [source: number, destination: number])[]): string {
  const length = parts.length * 4 + 2;
  const [ldAbs, tax, jeqX, retK] = [32, 7, 29, 6];
  const program = parts.flatMap(([source, destination], i) => [
    `${ldAbs} 0 0 ${source}`,
    `${tax} 0 0 0`,
    `${ldAbs} 0 0 ${destination}`,
    `${jeqX} 0 ${length - 1 - (i * 4 + 4)} 0`,
  ]);
  return [length, ...program, `${retK} 0 0 1`, `${retK} 0 0 0`].join(',');
}

const sourceIsDestination = {
  IPv4: equalParts([[12, 16]]),
  /** Low words first: they differ first. */
  IPv6: equalParts([
    [20, 36],
    [16, 32],
    [12, 28],
    [8, 24],
  ]),
} as const;
