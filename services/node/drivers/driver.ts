import type { Cidr, Ip } from '@octoplane/model/address.ts';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry, RuleSet } from '@octoplane/model/rule-set.ts';
import type { Logger } from 'pino';
import type { Capability } from './capabilities.ts';

/**
 * A driver turns rule sets and deltas into kernel state. The seam is the rule set, not the rule: no driver is bent into
 * the shape of another's tables.
 *
 * Guarantees that the reconciler relies on, and that test/contract checks on every driver, the fake one included:
 *   1. Ours only. Every object is recognisable as ours after a restart (own table, chain prefix, device, pin path),
 *      and nothing else is read as ours, changed or removed.
 *   2. Whole or not at all. A change set that fails leaves the kernel as it was, where the kernel can; where it cannot,
 *      the failure says `torn` and the reconciler resyncs.
 *   3. Hitless. No new or established connection fails while changes are applied, while one driver instance is
 *      closed and the next one opens, or while another driver takes over.
 *   4. Idempotent. Applying what is there, and removing what is absent, succeeds.
 *   5. Truthful. `dump` and `readBack` read the kernel, never a cache.
 *   6. A delta costs what it changes, however many services there are.
 *
 * Calls on one driver do not overlap: the reconciler waits for one before it makes the next.
 */
export interface Driver {
  readonly name: DriverName;

  /**
   * The part of an entry that this driver keeps in the kernel, in the form `dump` gives it back; null: nothing of it.
   * Pure. The law: dump() equals the rule set, entry by entry through `visible`.
   */
  visible(entry: Entry): Entry | null;

  /**
   * Would these changes fit (capacity, what this kernel supports)? Does not touch the kernel. Entries at fault are named,
   * so that the others can go on without them. Empty: they fit.
   */
  check(changes: readonly EntryChange[]): readonly Refusal[];

  /**
   * Brings the changes about, in one transaction where the kernel has them. `before` is what this driver was last asked
   * for; a driver that keeps books of its own trusts those over `before`.
   * @throws DriverError
   */
  apply(changes: readonly EntryChange[]): Promise<void>;

  /**
   * Reads from the kernel what `changes` touched, and nothing more, and names every entry that is not as its `after` says.
   * Empty: all is in place.
   */
  readBack(changes: readonly EntryChange[]): Promise<readonly Mismatch[]>;

  /**
   * Everything of ours that is in the kernel, as a rule set. Whatever of ours it cannot read as a part of an entry is left
   * to `prune`. Also refreshes the driver's own books, so that `apply` after `dump` starts from the truth.
   */
  dump(): Promise<RuleSet>;

  /**
   * Puts the frame around the rules in place (base chains, hooks, programs, sysctls) if it is missing or altered, and
   * removes objects of ours that no entry of `wanted` explains. Called after `dump` and the `apply` that follows it.
   * Returns how many objects were put right, 0 when all was well.
   */
  prune(wanted: RuleSet): Promise<number>;

  /** Removes all that is ours from the kernel (`--cleanup`). The driver is unusable afterwards. */
  cleanup(): Promise<void>;

  /**
   * Another driver's rules are in place: takes no new connection any more, and keeps what the established ones need. Null: nothing
   * of ours is left. Asked again after a restart, until then. Left out by drivers whose connections do not need them, because
   * conntrack has them: those are cleaned up.
   *
   * `track` tells conntrack of connections that began without it and go on without this driver: it would give their ports to others
   * as long as they are silent.
   */
  retire?(track: (connections: readonly Connection[]) => void): Promise<Retired | null>;

  /** Calls back when somebody else may have altered what is ours; at once, not by polling, where the kernel tells. */
  watch(onDisturbed: (what: string) => void, signal: AbortSignal): void;

  /**
   * True when the kernel vouches that nobody else has altered what is ours since this driver last wrote or dumped, at a cost
   * that does not grow with the rule set (nf_tables counts its generations). The check of every sync period is then done
   * without a dump. Left out where the kernel cannot tell.
   */
  undisturbed?(): boolean;

  /** Figures of its own for /metrics, by name without prefix. */
  gauges(): Readonly<Record<string, number>>;

  /**
   * What the kernel counted for each service port, of those that were given anything, the oldest first. Left out where the kernel
   * does not count, or where asking costs more than an answer is worth.
   */
  traffic?(): readonly ServiceTraffic[];

  /** The objects of the kernel behind what happens to a service port's traffic, read as they are now; none: there are none. */
  explain?(key: ServicePortKey): readonly Evidence[];

  /** Frees handles; leaves the rules. */
  close(): Promise<void>;
}

export interface Connection {
  readonly protocol: 'TCP' | 'UDP';
  readonly source: Ip;
  readonly sourcePort: number;
  readonly destination: Ip;
  readonly destinationPort: number;
}

/** A driver whose connections outlive its rules. */
export interface Retired {
  /** The rule set has changed: UDP flows to endpoints that go end, as they do on a driver in use. */
  follow(changes: readonly EntryChange[]): Promise<void>;
  /** True once no connection needs it, and nothing of ours is left. Costs a walk over its connections. */
  ended(): Promise<boolean>;
}

export const driverNames = ['ebpf', 'nftables', 'ipvs', 'iptables'] as const;
export type DriverName = (typeof driverNames)[number] | 'fake';

/** What a driver's room exports: see registry.ts for the list. */
export interface DriverModule {
  readonly name: DriverName;
  /**
   * Who removes UDP flows that outlive their endpoint (P30 to P32). `netfilter`: connections are translated by the kernel's
   * conntrack, and the daemon deletes stale flows there after every change. `own`: the driver sees to its flows itself, and
   * leaves alone what conntrack translates.
   */
  readonly flows: 'netfilter' | 'own';
  /** What it takes from the kernel's list of privileges, and manifests grant; `probe` says so when one is missing. */
  readonly capabilities: readonly Capability[];
  /** Can this machine run it? Leaves no trace. */
  probe(options: DriverOptions): Promise<Probe>;
  /** Takes over what an earlier instance left in the kernel; programs nothing before `apply` or `prune`. */
  open(options: DriverOptions): Promise<Driver>;
}

export type Probe =
  | { readonly t: 'able'; readonly details: readonly string[] }
  /** `lacks` are sentences: what is missing, the least kernel or package that has it, what to do. */
  | { readonly t: 'unable'; readonly lacks: readonly string[] };

export interface DriverOptions {
  readonly logger: Logger;
  /** Pod networks (--cluster-cidr). Empty: pods cannot be told from other clients (P35: no masquerade for off-cluster sources). */
  readonly clusterCidrs: readonly Cidr[];
  /** Left out: pods are known by `clusterCidrs`. Otherwise by the interface that their packets come in by, and by nothing else. */
  readonly podInterfaces?: PodInterfaces;
  readonly masqueradeAll: boolean;
  /** The bit of the packet mark that says "masquerade"; 14 as in kube-proxy. */
  readonly masqueradeBit: number;
  /** Where node ports answer (P24): 'all' local addresses, the 'primary' ones, or those within the CIDRs. */
  readonly nodePortAddresses: NodePortAddresses;
  /** The node's own addresses as the user or the Node object names them; empty: found from the default route. */
  readonly nodeAddresses: readonly Ip[];
  /** What a ping of a service address meets. `reply`: an answer while the Service has a usable endpoint, otherwise `reject`. */
  readonly icmp: IcmpMode;
  /** Drop packets that conntrack finds INVALID (P37): passed on untranslated, they make the peer reset a good connection. */
  readonly dropInvalid: boolean;
  /** Source ports that masqueraded packets may take; left out: any. See `besideEbpf`. */
  readonly masqueradePorts?: PortRange;
  /** cgroup v2 directory whose sockets are served (ebpf). */
  readonly cgroupPath: string;
  /** bpffs mount under which the ebpf driver pins. */
  readonly bpfFsPath: string;
  /** Private directory for the driver's files, on the state directory. */
  readonly stateDir: string;
  /** Of the ipvs driver; what is left out has its default. */
  readonly ipvs?: Partial<IpvsOptions>;
}

/** kube-proxy's detectLocalMode BridgeInterface, or with `prefix` InterfaceNamePrefix (P35). */
export interface PodInterfaces {
  readonly name: string;
  readonly prefix: boolean;
}

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/**
 * The eBPF driver masquerades with ports below 30,000 (consts.h). While connections of it go on beside a driver that masquerades through
 * netfilter, that one takes the others: neither knows which ports the other has taken.
 */
export const besideEbpf: PortRange = { first: 30_000, last: 65_535 };

/** KubeProxyConfiguration's `ipvs` section (P52), but excludeCIDRs: services of others are never touched. */
export interface IpvsOptions {
  /** A scheduler of the kernel: rr, wrr, lc, wlc, sh, dh, sed, nq, mh ... Default rr, as in kube-proxy. */
  readonly scheduler: string;
  /**
   * Set arp_ignore and arp_announce, so that the node does not answer ARP for service addresses: wanted with load balancers that
   * announce them (MetalLB). Default false, because it concerns every interface of the node.
   */
  readonly strictArp: boolean;
  /** Seconds after which idle connections are forgotten. Default 0: what the kernel has. */
  readonly tcpTimeoutSeconds: number;
  readonly tcpFinTimeoutSeconds: number;
  readonly udpTimeoutSeconds: number;
}

export type NodePortAddresses =
  | { readonly t: 'all' }
  | { readonly t: 'primary' }
  | { readonly t: 'cidrs'; readonly cidrs: readonly Cidr[] };

export const icmpModes = ['reply', 'reject', 'drop'] as const;
export type IcmpMode = (typeof icmpModes)[number];

export interface Refusal {
  readonly key: ServicePortKey;
  readonly reason: RefusalReason;
  /** A sentence: what does not fit, and what would. */
  readonly message: string;
}

export type RefusalReason = 'invalid' | 'capacity' | 'unsupported' | 'kernel';

export interface ServiceTraffic {
  readonly key: ServicePortKey;
  /** Of all its endpoints, with those that have gone. Never falls while the service port lives. */
  readonly counts: Counts;
  readonly endpoints: readonly EndpointTraffic[];
}

export interface EndpointTraffic {
  readonly ip: Ip;
  readonly port: number;
  readonly counts: Counts;
}

export interface Counts {
  /** Choices of a backend: connections, and for UDP sockets and flows that have none, their first datagram. */
  readonly connections: number;
  /** As far as the driver is on the path of packets. */
  readonly packetsTo: number;
  readonly bytesTo: number;
  readonly packetsFrom: number;
  readonly bytesFrom: number;
}

/** One object of the kernel. */
export interface Evidence {
  /** What kind, in the words of the tool that shows it: "map frontends". */
  readonly object: string;
  /** Which one. */
  readonly at: string;
  /** What it says, in a line. */
  readonly says: string;
}

export interface Mismatch {
  readonly key: ServicePortKey;
  /** "endpoint 10.1.2.3:8080 is missing". */
  readonly message: string;
}

/** A failed apply, prune or dump, translated once where the kernel answered. */
export class DriverError extends Error {
  override readonly name = 'DriverError';
  /** Entries at fault, as far as the kernel said. */
  readonly refusals: readonly Refusal[];
  /** The kernel may hold a part of the change set: a full resync must follow. */
  readonly torn: boolean;
  constructor(message: string, details: { refusals?: readonly Refusal[]; torn?: boolean; cause?: unknown } = {}) {
    super(message, { cause: details.cause });
    this.refusals = details.refusals ?? [];
    this.torn = details.torn ?? false;
  }
}
