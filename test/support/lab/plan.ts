import type { Ip } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';

/**
 * What the lab builds, as a plan: hosts, pods, addresses and routes. Pure; build.ts brings it about.
 *
 *   outside (172.18.0.250)   brain (172.18.0.200)
 *          |                     |
 *     =====+=====================+========  underlay: a bridge in a namespace of its own, 172.18.0.0/24, fd00:18::/64
 *          |             |            |
 *       node-1        node-2       node-3     (.1, .2, .3), zones "a", "b", "a", ...
 *       |    |        |    |        |    |
 *    pod-1a pod-1b  pod-2a pod-2b  ...        10.244.N.10 and on, fd00:244:N::a and on
 *
 * A pod is a namespace behind its node by a veth pair and host routes, without a bridge, as Calico does it. The outside host
 * reaches load-balancer, external and service addresses through a node of choice, and is the nodes' default route, as the
 * router of a data centre is. It also owns `balancer`, the address of a load balancer of the provider's.
 */
export interface LabPlan {
  /** Prefix of everything that this lab creates. */
  readonly prefix: string;
  readonly families: readonly Family[];
  readonly hosts: readonly HostPlan[];
  readonly underlayNetns: string;
}

export interface HostPlan {
  readonly kind: 'node' | 'outside' | 'brain';
  readonly name: string;
  readonly zone: string;
  /** Pods, after the host itself. */
  readonly places: readonly [Place, ...Place[]];
}

/** Somewhere a client or a server can be: a host's own network, or a pod. */
export interface Place {
  readonly name: string;
  readonly netns: string;
  readonly addresses: Readonly<Record<Family, Ip>>;
}

export interface LabOptions {
  /** Default 3. */
  readonly nodes?: number;
  /** Pods on every node, named pod-1a, pod-1b, ... Default 3. */
  readonly podsPerNode?: number;
  /** Default both. */
  readonly families?: readonly Family[];
  /** The octoplane to run. Default: the sources of this checkout. */
  readonly program?: string;
}

/** A further address of node N, on an interface that leads nowhere: reached from the node itself and from its pods. */
export const secondAddress = (n: number): Readonly<Record<Family, Ip>> => ({
  IPv4: `172.19.0.${n}`,
  IPv6: `fd00:19::${n}`,
});

/** On the outside host: where traffic ends that a node must not take for itself (P7, ipMode Proxy). */
export const balancer: Readonly<Record<Family, Ip>> = { IPv4: '203.0.113.200', IPv6: '2001:db8:113::200' };

export const clusterCidrs: Readonly<Record<Family, string>> = { IPv4: '10.244.0.0/16', IPv6: 'fd00:244::/32' };
export const serviceCidrs: Readonly<Record<Family, string>> = { IPv4: '10.96.0.0/12', IPv6: 'fd00:96::/108' };

/** What the outside host reaches through a node. */
export const routedThroughNodes: Readonly<Record<Family, readonly string[]>> = {
  IPv4: [serviceCidrs.IPv4, '203.0.113.0/24', '198.51.100.0/24'],
  IPv6: [serviceCidrs.IPv6, '2001:db8:113::/64', '2001:db8:51::/64'],
};

const zones = ['a', 'b'];

export function planLab(prefix: string, options: LabOptions = {}): LabPlan {
  const { nodes = 3, podsPerNode = 3, families = ['IPv4', 'IPv6'] } = options;
  const host = (kind: HostPlan['kind'], name: string, last: number, zone = ''): HostPlan => ({
    kind,
    name,
    zone,
    places: [place(prefix, name, { IPv4: `172.18.0.${last}`, IPv6: `fd00:18::${last}` })],
  });
  const node = (n: number): HostPlan => {
    const plain = host('node', `node-${n}`, n, zones[(n - 1) % zones.length]);
    const pods = Array.from({ length: podsPerNode }, (_, i) =>
      place(prefix, `pod-${n}${String.fromCharCode(97 + i)}`, {
        IPv4: `10.244.${n}.${10 + i}`,
        IPv6: `fd00:244:${n}::${(10 + i).toString(16)}`,
      }),
    );
    return { ...plain, places: [plain.places[0], ...pods] };
  };
  return {
    prefix,
    families,
    hosts: [
      ...Array.from({ length: nodes }, (_, i) => node(i + 1)),
      host('outside', 'outside', 250),
      host('brain', 'brain', 200),
    ],
    underlayNetns: `${prefix}-underlay`,
  };
}

const place = (prefix: string, name: string, addresses: Place['addresses']): Place => ({
  name,
  netns: `${prefix}-${name}`,
  addresses,
});

/** For `ip -batch` in the first namespace: namespaces and the links between them. */
export function linkBatch(plan: LabPlan): string {
  const lines = [plan.underlayNetns, ...plan.hosts.flatMap((host) => host.places.map((each) => each.netns))].map(
    (netns) => `netns add ${netns}`,
  );
  for (const { places } of plan.hosts) {
    const [host, ...pods] = places;
    lines.push(
      `link add eth0 netns ${host.netns} address ${hostMac(host)} type veth peer name ${host.name} netns ${plan.underlayNetns}`,
    );
    for (const [i, pod] of pods.entries())
      lines.push(
        `link add eth0 netns ${pod.netns} address ${mac(i, 1)} type veth peer name ${pod.name} netns ${host.netns} address ${mac(i, 0)}`,
      );
  }
  return `${lines.join('\n')}\n`;
}

/** For `ip -batch` inside each namespace. Neighbours are given, so that the first packet waits for nothing. */
export function addressBatches(plan: LabPlan): Map<string, string> {
  const batches = new Map<string, string[]>();
  batches.set(plan.underlayNetns, [
    'link add br0 type bridge mcast_snooping 0',
    'link set br0 up',
    ...plan.hosts.flatMap(({ name }) => [`link set ${name} master br0`, `link set ${name} up`]),
  ]);
  const outside = outsidePlace(plan);
  for (const host of plan.hosts) {
    const [self, ...pods] = host.places;
    const lines = ['link set lo up', 'link set eth0 up'];
    if (host.kind === 'node') lines.push('link add second type bridge', 'link set second up');
    batches.set(self.netns, lines);
    for (const family of plan.families) {
      lines.push(`addr add ${self.addresses[family]}/${family === 'IPv4' ? 24 : 64} dev eth0${nodad(family)}`);
      lines.push(...neighbours(plan, host, family), ...podRoutes(plan, host, family));
      if (host.kind === 'outside') lines.push(`addr add ${balancer[family]} dev lo`, ...routesThrough(plan, family, 1));
      const n = nodeNumber(host);
      if (n !== null)
        lines.push(
          `addr add ${secondAddress(n)[family]} dev second${nodad(family)}`,
          `route add default via ${outside.addresses[family]}`,
        );
    }
    for (const [i, pod] of pods.entries()) {
      lines.push(`link set ${pod.name} up`);
      const podLines = ['link set lo up', 'link set eth0 up'];
      batches.set(pod.netns, podLines);
      for (const family of plan.families) {
        const gateway = family === 'IPv4' ? '169.254.1.1' : 'fe80::1';
        const ip = pod.addresses[family];
        lines.push(
          `route add ${ip} dev ${pod.name} src ${self.addresses[family]}`,
          `neigh add ${ip} lladdr ${mac(i, 1)} dev ${pod.name} nud permanent`,
        );
        podLines.push(
          `addr add ${ip} dev eth0${nodad(family)}`,
          `neigh add ${gateway} lladdr ${mac(i, 0)} dev eth0 nud permanent`,
          `route add default via ${gateway} dev eth0 onlink src ${ip}`,
        );
      }
    }
  }
  return new Map([...batches].map(([netns, lines]) => [netns, `${lines.join('\n')}\n`]));
}

function neighbours(plan: LabPlan, host: HostPlan, family: Family): string[] {
  return plan.hosts
    .filter((other) => other !== host)
    .map(
      ({ places: [other] }) => `neigh add ${other.addresses[family]} lladdr ${hostMac(other)} dev eth0 nud permanent`,
    );
}

/** Every host knows the way to every node's pods, as with BGP. */
function podRoutes(plan: LabPlan, host: HostPlan, family: Family): string[] {
  const lines: string[] = [];
  for (const other of plan.hosts) {
    const n = nodeNumber(other);
    if (n === null || other === host) continue;
    const pods = family === 'IPv4' ? `10.244.${n}.0/24` : `fd00:244:${n}::/64`;
    lines.push(`route add ${pods} via ${other.places[0].addresses[family]}`);
  }
  return lines;
}

/** `ip` lines that send the outside host's service traffic to node N. */
export function routesThrough(plan: LabPlan, family: Family, n: number): string[] {
  const node = plan.hosts.find((host) => host.name === `node-${n}`);
  if (!node) throw new RangeError(`the lab has no node-${n}`);
  return routedThroughNodes[family].map((cidr) => `route replace ${cidr} via ${node.places[0].addresses[family]}`);
}

export const nodeNumber = (host: HostPlan): number | null =>
  host.kind === 'node' ? Number(host.name.slice('node-'.length)) : null;

function outsidePlace(plan: LabPlan): Place {
  const host = plan.hosts.find((each) => each.kind === 'outside');
  if (!host) throw new RangeError('a lab has an outside host');
  return host.places[0];
}

const nodad = (family: Family): string => (family === 'IPv6' ? ' nodad' : '');

const hostMac = (host: Place): string =>
  `02:00:00:00:ff:${Number(host.addresses.IPv4.split('.')[3]).toString(16).padStart(2, '0')}`;

/** Of pod i's link: side 1 in the pod, side 0 on the node. Unique on that link, which is all that is asked of it. */
const mac = (i: number, side: 0 | 1): string => `02:00:00:00:${i.toString(16).padStart(2, '0')}:0${side}`;
