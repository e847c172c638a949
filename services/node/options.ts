import { isIPv6 } from 'node:net';
import type { Cidr, Ip } from '@octoplane/model/address.ts';
import type { NodeName } from '@octoplane/model/keys.ts';
import type { DriverName, IcmpMode, IpvsOptions, NodePortAddresses, PodInterfaces } from './drivers/driver.ts';
import type { Transport } from './receive/channel.ts';
import { StartError } from './start-error.ts';

/** Everything that the daemon can be told. The command line fills it from flags, environment and files. */
export interface NodeOptions {
  /** HOST:PORT or unix:PATH of each controller. No default: a node without a controller has nothing to do. */
  readonly controllers: readonly string[];
  /** Must be the name in the certificate and of the Node object. Default: the host name, in lower case. */
  readonly nodeName: NodeName;
  /** Default `auto`: the fastest that can run here, with the reasons in the log. */
  readonly driver: DriverName | 'auto';
  /** The journal and drivers' files. Default /var/lib/octoplane: it has to outlive a restart of the daemon. */
  readonly stateDir: string;
  /** Default empty: the Node object's label topology.kubernetes.io/zone says it, and takes precedence. */
  readonly zone: string;
  /** Default empty: the cluster of the Node object, which takes precedence, otherwise the controller's first. */
  readonly cluster: string;
  /** Pod networks, to tell pods from other clients (P35). Default none: nothing is masqueraded for being from elsewhere. */
  readonly clusterCidrs: readonly Cidr[];
  /** Tells pods by the interface that their packets come in by (P35). Default null: by `clusterCidrs`. */
  readonly podInterfaces: PodInterfaces | null;
  /** Masquerade all that goes to a ClusterIP. Default false, as in kube-proxy: it hides clients from their servers. */
  readonly masqueradeAll: boolean;
  /** Bit of the packet mark. Default 14, as in kube-proxy, so that what others exempt stays exempt. */
  readonly masqueradeBit: number;
  /** Where node ports answer (P24). Default `all`, as users of kube-proxy's iptables mode expect. */
  readonly nodePortAddresses: NodePortAddresses;
  /** The node's own addresses. Default none: found from the default route. */
  readonly nodeAddresses: readonly Ip[];
  /** What a ping of a service address meets. Default `reply`, because users try it first. */
  readonly icmp: IcmpMode;
  /** cgroup v2 directory whose sockets the eBPF driver serves. Default: the root of the hierarchy. */
  readonly cgroupPath: string;
  /** bpffs under which the eBPF driver pins. Default /sys/fs/bpf. */
  readonly bpfFsPath: string;
  /** Of /healthz and /livez. Default 0.0.0.0:10256: load balancers ask from outside. Null: not served. */
  readonly healthzBindAddress: BindAddress | null;
  /** Of /metrics, /proxyMode and /configz. Default 127.0.0.1:10249: they tell of the cluster. Null: not served. */
  readonly metricsBindAddress: BindAddress | null;
  /** The longest that a disturbance of the kernel stays unnoticed, milliseconds. Default 30,000, as kube-proxy's syncPeriod. */
  readonly syncPeriodMs: number;
  /** oom_score_adj of this process, see proc(5). Default null: as it was started; a DaemonSet sets it already. */
  readonly oomScoreAdj: number | null;
  /** Of the IPVS driver. Default as in kube-proxy: rr, and the kernel's timeouts. */
  readonly ipvs: IpvsOptions;
  readonly conntrack: ConntrackOptions;
  /** Certificates, or none. No default: encryption is not left out by accident. */
  readonly transport: Transport;
  /** Lets `--insecure` reach a controller that is not on this machine. Default false. */
  readonly insecureAllowRemote: boolean;
  /** Removes every driver's rules and ends. Default false. */
  readonly cleanup: boolean;
}

/** Kernel settings (P36), defaults as in kube-proxy. 0 everywhere: left as it is. */
export interface ConntrackOptions {
  /** nf_conntrack_max is raised to max(min, maxPerCore * cores), never lowered. Default 32,768; 0 with min 0: left. */
  readonly maxPerCore: number;
  /** Default 131,072. */
  readonly min: number;
  /** Default 86,400: the kernel's 5 days keep the entries of crashed peers. */
  readonly tcpEstablishedTimeoutSeconds: number;
  /** Default 3,600: half-closed connections are longer lived than the kernel's minute. */
  readonly tcpCloseWaitTimeoutSeconds: number;
  /** Default 0. */
  readonly udpTimeoutSeconds: number;
  /** Default 0. */
  readonly udpStreamTimeoutSeconds: number;
  /** Default false. True takes packets outside the window for good, and then nothing INVALID is dropped (P37). */
  readonly tcpBeLiberal: boolean;
}

export interface BindAddress {
  readonly host: string;
  readonly port: number;
}

export const formatBindAddress = ({ host, port }: BindAddress): string =>
  isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;

export const defaultNodeOptions = {
  driver: 'auto',
  stateDir: '/var/lib/octoplane',
  zone: '',
  cluster: '',
  clusterCidrs: [],
  podInterfaces: null,
  masqueradeAll: false,
  masqueradeBit: 14,
  nodePortAddresses: { t: 'all' },
  nodeAddresses: [],
  icmp: 'reply',
  cgroupPath: '/sys/fs/cgroup',
  bpfFsPath: '/sys/fs/bpf',
  healthzBindAddress: { host: '0.0.0.0', port: 10_256 },
  metricsBindAddress: { host: '127.0.0.1', port: 10_249 },
  syncPeriodMs: 30_000,
  oomScoreAdj: null,
  ipvs: { scheduler: 'rr', strictArp: false, tcpTimeoutSeconds: 0, tcpFinTimeoutSeconds: 0, udpTimeoutSeconds: 0 },
  conntrack: {
    maxPerCore: 32_768,
    min: 131_072,
    tcpEstablishedTimeoutSeconds: 86_400,
    tcpCloseWaitTimeoutSeconds: 3_600,
    udpTimeoutSeconds: 0,
    udpStreamTimeoutSeconds: 0,
    tcpBeLiberal: false,
  },
  insecureAllowRemote: false,
  cleanup: false,
} as const satisfies Omit<NodeOptions, 'controllers' | 'nodeName' | 'transport'>;

/** @throws StartError `BAD_OPTION` with the flag to change */
export function validateNodeOptions(options: NodeOptions): void {
  if (options.cleanup) return;
  if (options.controllers.length === 0) throw bad('no controller is named: pass --controller HOST:PORT');
  for (const controller of options.controllers) requireHostPort(controller);
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(options.nodeName))
    throw bad(`--node-name ${options.nodeName} is not a DNS name in lower case, as Kubernetes names nodes`);
  if (options.podInterfaces && options.driver === 'ipvs')
    throw bad('--detect-local is not for --driver ipvs, which tells pods by their networks: pass --cluster-cidr');
  if (options.masqueradeBit < 0 || options.masqueradeBit > 31) throw bad('the masquerade bit is one of 0 to 31');
  if (options.syncPeriodMs < 1000) throw bad('the sync period is at least a second');
  const remote = options.controllers.find((controller) => !isUnixSocket(controller) && !isLoopback(hostOf(controller)));
  if (options.transport.t === 'insecure' && !options.insecureAllowRemote && remote !== undefined)
    throw bad(
      `--insecure to ${remote}, which is not on this machine: use --tls-cert, --tls-key and --tls-ca, or add --insecure-allow-remote if anybody on the way may rewrite this node's rules`,
    );
}

function requireHostPort(text: string): void {
  if (isUnixSocket(text)) return;
  const port = Number(text.slice(text.lastIndexOf(':') + 1));
  if (hostOf(text) === '' || !Number.isInteger(port) || port < 1 || port > 65_535)
    throw bad(`--controller ${text} is neither HOST:PORT nor unix:PATH`);
}

/** Reaches a controller on this machine across network namespaces; who may use it is the file system's to say. */
const isUnixSocket = (address: string): boolean => /^unix:.+/.test(address);

const hostOf = (address: string): string =>
  address.slice(0, Math.max(0, address.lastIndexOf(':'))).replace(/^\[|\]$/g, '');

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || host.startsWith('127.');

const bad = (message: string): StartError => new StartError('BAD_OPTION', message);
