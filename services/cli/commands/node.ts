import { hostname } from 'node:os';
import { type Cidr, canonicalIp, type Ip, parseCidr } from '@octoplane/model/address.ts';
import { nodeName } from '@octoplane/model/keys.ts';
import {
  driverNames,
  type IcmpMode,
  icmpModes,
  type NodePortAddresses,
  type PodInterfaces,
} from '@octoplane/node/drivers/driver.ts';
import { type BindAddress, defaultNodeOptions, formatBindAddress, type NodeOptions } from '@octoplane/node/options.ts';
import { Command, InvalidArgumentError, type Option } from 'commander';
import { applyConfigFile } from '../config-file.ts';
import { addresses, durationMs, flag, list, type TlsFlags, wholeNumber, withTlsFlags } from '../flags.ts';
import { type LogLevel, logger, withLogFlags } from '../logging.ts';
import { terminationSignal } from '../signals.ts';
import { transport } from '../tls-files.ts';

interface NodeFlags extends TlsFlags {
  readonly controller?: readonly string[];
  readonly nodeName: string;
  readonly driver: NodeOptions['driver'];
  readonly stateDir: string;
  readonly zone: string;
  readonly cluster: string;
  readonly clusterCidr: readonly Cidr[];
  readonly detectLocal: PodInterfaces | null;
  readonly masqueradeAll: boolean;
  readonly masqueradeBit: number;
  readonly nodePortAddresses: NodePortAddresses;
  readonly nodeIp: readonly Ip[];
  readonly icmp: IcmpMode;
  readonly cgroupPath: string;
  readonly bpfFs: string;
  readonly healthzBindAddress: BindAddress | null;
  readonly metricsBindAddress: BindAddress | null;
  readonly syncPeriod: number;
  readonly oomScoreAdj: number | null;
  readonly ipvsScheduler: string;
  readonly ipvsStrictArp: boolean;
  readonly ipvsTcpTimeout: number;
  readonly ipvsTcpFinTimeout: number;
  readonly ipvsUdpTimeout: number;
  readonly conntrackMaxPerCore: number;
  readonly conntrackMin: number;
  readonly conntrackTcpTimeoutEstablished: number;
  readonly conntrackTcpTimeoutCloseWait: number;
  readonly conntrackUdpTimeout: number;
  readonly conntrackUdpTimeoutStream: number;
  readonly conntrackTcpBeLiberal: boolean;
  readonly cleanup: boolean;
  readonly config?: string;
  readonly logLevel: LogLevel;
}

const defaults = defaultNodeOptions;

export const nodeCommand = (): Command =>
  withLogFlags(withTlsFlags(withConntrackFlags(withIpvsFlags(withKernelFlags(withNodeFlags(new Command('node')))))))
    .description(
      'the arm: programs this machine’s kernel with the rule set that a controller sends, and acknowledges it',
    )
    .addHelpText(
      'after',
      '\nRules stay in the kernel when the daemon ends; --cleanup removes them.\n\nExamples:\n' +
        '  octoplane node --controller 127.0.0.1:12090 --insecure\n' +
        '  octoplane node --controller a:12090,b:12090 --node-name worker-7 --cluster-cidr 10.244.0.0/16 \\\n' +
        '    --tls-cert node.pem --tls-key node.key --tls-ca ca.pem\n' +
        '  octoplane node --cleanup',
    )
    .action(async (_: NodeFlags, command: Command) => {
      const file = command.getOptionValue('config') as string | undefined;
      const disregarded = file === undefined ? null : applyConfigFile(command, file);
      const flags = command.opts<NodeFlags>();
      const log = logger(flags.logLevel, 'node');
      if (disregarded && disregarded.ignored.length + disregarded.unknown.length > 0)
        log.warn({ file, ...disregarded }, 'fields of the configuration do not count here');
      const { runNode } = await import('@octoplane/node/main.ts');
      await runNode(toOptions(flags), { logger: log, signal: terminationSignal() });
    });

const withNodeFlags = (command: Command): Command =>
  command
    .addOption(flag('--controller <address>', 'HOST:PORT or unix:PATH; repeatable, tried in turn').argParser(addresses))
    .addOption(
      flag('--node-name <name>', 'as the Node object and the certificate have it').default(hostname().toLowerCase()),
    )
    .addOption(flag('--zone <zone>', 'where no Node object says it').default(defaults.zone))
    .addOption(
      flag('--cluster <name>', 'of a controller with several, where no Node object says it').default(defaults.cluster),
    )
    .addOption(flag('--state-dir <dir>', 'the journal; has to outlive a restart').default(defaults.stateDir))
    .addOption(flag('--config <file>', 'these settings as YAML, keys in camelCase; or a KubeProxyConfiguration'))
    .addOption(
      flag('--healthz-bind-address <address>', '/healthz and /livez; "" for none')
        .default(defaults.healthzBindAddress, formatBindAddress(defaults.healthzBindAddress))
        .argParser(bindAddress),
    )
    .addOption(
      flag('--metrics-bind-address <address>', '/metrics, /proxyMode, /configz; "" for none')
        .default(defaults.metricsBindAddress, formatBindAddress(defaults.metricsBindAddress))
        .argParser(bindAddress),
    )
    .addOption(
      flag('--oom-score-adj <n>', 'how soon the kernel ends this daemon when memory is short, -1000 (never) to 1000')
        .default(defaults.oomScoreAdj, 'as it was started')
        .argParser(oomScoreAdj),
    )
    .addOption(flag('--cleanup', 'remove all rules that are ours, of every driver, and end').default(defaults.cleanup));

const withKernelFlags = (command: Command): Command => {
  command.optionsGroup('Kernel:');
  return command
    .addOption(
      flag('--driver <name>', 'how the kernel is programmed; auto: the fastest that can run here')
        .choices(['auto', ...driverNames])
        .default(defaults.driver),
    )
    .addOption(
      flag('--cluster-cidr <cidr>', 'pod networks; tells pods from other clients; repeatable')
        .default(defaults.clusterCidrs, 'none')
        .argParser(cidrs),
    )
    .addOption(
      flag(
        '--detect-local <how>',
        'tell pods by the interface they come in by, not by network: bridge:NAME or prefix:NAME',
      )
        .default(defaults.podInterfaces, 'by --cluster-cidr')
        .argParser(podInterfaces),
    )
    .addOption(flag('--masquerade-all', 'hide every client behind the node').default(defaults.masqueradeAll))
    .addOption(
      flag('--masquerade-bit <n>', 'bit of the packet mark').default(defaults.masqueradeBit).argParser(wholeNumber),
    )
    .addOption(
      flag('--node-port-addresses <where>', 'all, primary, or CIDRs')
        .default(defaults.nodePortAddresses, defaults.nodePortAddresses.t)
        .argParser(nodePortAddresses),
    )
    .addOption(
      flag('--node-ip <ip>', 'own addresses; repeatable').default([], 'those of the default route').argParser(ips),
    )
    .addOption(flag('--icmp <answer>', 'to a ping of a service address').choices(icmpModes).default(defaults.icmp))
    .addOption(flag('--cgroup-path <dir>', 'cgroup v2 whose sockets are served (ebpf)').default(defaults.cgroupPath))
    .addOption(flag('--bpf-fs <dir>', 'where programs and maps are pinned (ebpf)').default(defaults.bpfFsPath))
    .addOption(
      flag('--sync-period <duration>', 'the longest that a disturbance stays unnoticed')
        .default(defaults.syncPeriodMs, '30s')
        .argParser(durationMs),
    );
};

const withIpvsFlags = (command: Command): Command => {
  command.optionsGroup('IPVS (0 leaves the kernel’s timeout):');
  const { ipvs } = defaults;
  return command
    .addOption(flag('--ipvs-scheduler <name>', 'one of the kernel: rr, wrr, lc, sh, mh ...').default(ipvs.scheduler))
    .addOption(flag('--ipvs-strict-arp', 'do not answer ARP for service addresses').default(ipvs.strictArp))
    .addOption(secondsFlag('--ipvs-tcp-timeout', 'idle', ipvs.tcpTimeoutSeconds))
    .addOption(secondsFlag('--ipvs-tcp-fin-timeout', 'closing', ipvs.tcpFinTimeoutSeconds))
    .addOption(secondsFlag('--ipvs-udp-timeout', 'idle', ipvs.udpTimeoutSeconds));
};

const secondsFlag = (name: string, what: string, value: number): Option =>
  flag(`${name} <duration>`, what)
    .default(value, `${value}s`)
    .argParser((text) => durationMs(text) / 1_000);

const withConntrackFlags = (command: Command): Command => {
  command.optionsGroup('Connection tracking (0 leaves the kernel’s setting):');
  const { conntrack } = defaults;
  return command
    .addOption(flag('--conntrack-max-per-core <n>', 'entries').default(conntrack.maxPerCore).argParser(wholeNumber))
    .addOption(flag('--conntrack-min <n>', 'entries at least').default(conntrack.min).argParser(wholeNumber))
    .addOption(secondsFlag('--conntrack-tcp-timeout-established', 'idle', conntrack.tcpEstablishedTimeoutSeconds))
    .addOption(secondsFlag('--conntrack-tcp-timeout-close-wait', 'half closed', conntrack.tcpCloseWaitTimeoutSeconds))
    .addOption(secondsFlag('--conntrack-udp-timeout', 'one-way', conntrack.udpTimeoutSeconds))
    .addOption(secondsFlag('--conntrack-udp-timeout-stream', 'two-way', conntrack.udpStreamTimeoutSeconds))
    .addOption(
      flag('--conntrack-tcp-be-liberal', 'accept packets outside the window instead of dropping INVALID ones').default(
        conntrack.tcpBeLiberal,
      ),
    );
};

const toOptions = (flags: NodeFlags): NodeOptions => ({
  controllers: flags.controller ?? [],
  nodeName: nodeName(flags.nodeName),
  driver: flags.driver,
  stateDir: flags.stateDir,
  zone: flags.zone,
  cluster: flags.cluster,
  clusterCidrs: flags.clusterCidr,
  podInterfaces: flags.detectLocal,
  masqueradeAll: flags.masqueradeAll,
  masqueradeBit: flags.masqueradeBit,
  nodePortAddresses: flags.nodePortAddresses,
  nodeAddresses: flags.nodeIp,
  icmp: flags.icmp,
  cgroupPath: flags.cgroupPath,
  bpfFsPath: flags.bpfFs,
  healthzBindAddress: flags.healthzBindAddress,
  metricsBindAddress: flags.metricsBindAddress,
  syncPeriodMs: flags.syncPeriod,
  oomScoreAdj: flags.oomScoreAdj,
  ipvs: {
    scheduler: flags.ipvsScheduler,
    strictArp: flags.ipvsStrictArp,
    tcpTimeoutSeconds: flags.ipvsTcpTimeout,
    tcpFinTimeoutSeconds: flags.ipvsTcpFinTimeout,
    udpTimeoutSeconds: flags.ipvsUdpTimeout,
  },
  conntrack: {
    maxPerCore: flags.conntrackMaxPerCore,
    min: flags.conntrackMin,
    tcpEstablishedTimeoutSeconds: flags.conntrackTcpTimeoutEstablished,
    tcpCloseWaitTimeoutSeconds: flags.conntrackTcpTimeoutCloseWait,
    udpTimeoutSeconds: flags.conntrackUdpTimeout,
    udpStreamTimeoutSeconds: flags.conntrackUdpTimeoutStream,
    tcpBeLiberal: flags.conntrackTcpBeLiberal,
  },
  transport: flags.cleanup ? { t: 'insecure' } : transport(flags),
  insecureAllowRemote: flags.insecureAllowRemote ?? false,
  cleanup: flags.cleanup,
});

/** The first use of a repeatable flag replaces the default; later ones add to it. */
const repeatable =
  <T>(parse: (text: string) => T | null, form: string) =>
  (value: string, previous: readonly T[] | undefined): readonly T[] => [
    ...(previous ?? []),
    ...list(value, undefined).map((text) => {
      const parsed = parse(text);
      if (parsed === null) throw new InvalidArgumentError(`"${text}" is not ${form}.`);
      return parsed;
    }),
  ];

const cidrs = repeatable(parseCidr, 'a network such as 10.244.0.0/16');
const ips = repeatable(canonicalIp, 'an IP address');

function nodePortAddresses(value: string): NodePortAddresses {
  if (value === 'all' || value === 'primary') return { t: value };
  return { t: 'cidrs', cidrs: cidrs(value, []) };
}

function bindAddress(value: string): BindAddress | null {
  if (value === '') return null;
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([0-9.]+)):(\d{1,5})$/.exec(value);
  const host = canonicalIp(match?.[1] ?? match?.[2] ?? '');
  const port = Number(match?.[3]);
  if (host === null || port > 65_535) throw new InvalidArgumentError('Write ADDRESS:PORT, for example 0.0.0.0:10256.');
  return { host, port };
}

function podInterfaces(value: string): PodInterfaces {
  const [, how, name] = /^(bridge|prefix):([^\s/"+*]{1,15})$/.exec(value) ?? [];
  if (name === undefined) throw new InvalidArgumentError('Write bridge:NAME or prefix:NAME, for example prefix:cali.');
  return { name, prefix: how === 'prefix' };
}

function oomScoreAdj(value: string): number {
  if (!/^-?[0-9]{1,4}$/.test(value) || Math.abs(Number(value)) > 1_000)
    throw new InvalidArgumentError('Write a whole number from -1000 to 1000.');
  return Number(value);
}
