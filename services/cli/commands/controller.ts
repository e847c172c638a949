import { type ControllerOptions, defaultClusterLeaseMs, type SourceOption } from '@octoplane/controller/options.ts';
import { type Cidr, familyOf, parseCidr } from '@octoplane/model/address.ts';
import { Command, InvalidArgumentError } from 'commander';
import { applyConfigFile } from '../config-file.ts';
import { type EtcdTlsFlags, etcdTlsFiles, withEtcdTlsFlags } from '../etcd.ts';
import { address, durationMs, flag, list, type TlsFlags, withTlsFlags } from '../flags.ts';
import { type LogLevel, logger, withLogFlags } from '../logging.ts';
import { release } from '../release.ts';
import { terminationSignal } from '../signals.ts';
import { transport } from '../tls-files.ts';

interface ControllerFlags extends TlsFlags, EtcdTlsFlags {
  readonly source?: readonly SourceOption[];
  readonly kubeconfig?: string;
  readonly listen: string;
  readonly http: string;
  readonly serviceCidr: readonly Cidr[];
  readonly clustersetCidr?: readonly Cidr[];
  readonly clusterLease: number;
  readonly stateDir?: string;
  readonly settle: number;
  readonly gateClients: readonly Cidr[];
  readonly readinessGates?: boolean;
  readonly gateIgnoreGone: number;
  readonly gatesKnowAll?: boolean;
  readonly logLevel: LogLevel;
}

export const defaultServiceCidr: Cidr = { ip: '10.96.0.0', length: 12 };

export const controllerCommand = (): Command =>
  withLogFlags(withTlsFlags(withEtcdTlsFlags(withControllerFlags(new Command('controller')))))
    .description('the brain: watches Services and endpoints, and streams every node its rule set')
    .addHelpText(
      'after',
      '\nSources: [NAME=]file:DIR, a directory of Kubernetes manifests, watched; [NAME=]etcd:URL[,URL...], what octoplane apply writes;\n[NAME=]kubernetes:[CONTEXT], a cluster by its kubeconfig context.\n\nExamples:\n' +
        '  octoplane controller --source file:/etc/octoplane/manifests --insecure\n' +
        '  octoplane controller --source file:/etc/octoplane/manifests --listen 0.0.0.0:12090 \\\n' +
        '    --tls-cert controller.pem --tls-key controller.key --tls-ca ca.pem',
    )
    .action(async (_: ControllerFlags, command: Command) => {
      const file = command.getOptionValue('config') as string | undefined;
      if (file !== undefined) applyConfigFile(command, file);
      const flags = command.opts<ControllerFlags>();
      const options = toOptions(flags);
      const { runController } = await import('@octoplane/controller/main.ts');
      await runController(options, { logger: logger(flags.logLevel, 'controller'), signal: terminationSignal() });
      // Everything of ours is closed. What may still be open is an exporter's call to a collector that does not answer, and it has no way to be cut.
      process.exit();
    });

const withControllerFlags = (command: Command): Command =>
  command
    .addOption(
      flag(
        '--source <source>',
        'where objects come from; repeatable, one per cluster, in order of precedence',
      ).argParser(sources),
    )
    .addOption(
      flag(
        '--kubeconfig <file>',
        'for kubernetes sources; otherwise KUBECONFIG, ~/.kube/config, or the service account of the pod',
      ),
    )
    .addOption(flag('--listen <address>', 'gRPC, for nodes and clients').default('127.0.0.1:12090').argParser(address))
    .addOption(
      flag('--http <address>', '/healthz, /livez, /readyz, /metrics; /gone and /programmed for hooks')
        .default('127.0.0.1:12091')
        .argParser(address),
    )
    .addOption(
      flag(
        '--readiness-gates',
        "turn the condition octoplane.io/programmed of Pods true; watches Pods with the label octoplane.io/gate=programmed, writes Pods' status",
      ),
    )
    .addOption(
      flag('--gate-ignore-gone <duration>', 'a node that has been disconnected for so long holds up no readiness gate')
        .default(30_000, '30s')
        .argParser(durationMs),
    )
    .addOption(
      flag(
        '--gates-know-all',
        'gates and hooks do not wait for Node objects of which no daemon has connected to this controller: for a cluster in which some nodes run none',
      ),
    )
    .addOption(
      flag(
        '--gate-clients <cidr>',
        'who may ask /gone and /programmed about any endpoint; others may about their own address, with no credentials',
      )
        .default([], 'this machine')
        .argParser(cidrs),
    )
    .addOption(
      flag('--service-cidr <cidr>', 'addresses for Services that ask for one; one per family')
        .default([defaultServiceCidr], '10.96.0.0/12')
        .argParser(serviceCidrs),
    )
    .addOption(
      flag(
        '--clusterset-cidr <cidr>',
        'addresses for Services that clusters export to each other; one per family, and used by nothing else',
      ).argParser((value: string, previous: readonly Cidr[] | undefined) => serviceCidrs(value, previous ?? [])),
    )
    .addOption(
      flag('--cluster-lease <duration>', 'a cluster silent for longer is done without by the others; 0s: never')
        .default(defaultClusterLeaseMs, '15m')
        .argParser(durationMs),
    )
    .addOption(flag('--state-dir <dir>', 'remembers which Service was given which address, and which nodes there are'))
    .addOption(
      flag(
        '--settle <duration>',
        'after a start, how long nothing is called programmed everywhere while nodes are missing',
      )
        .default(20_000, '20s')
        .argParser(durationMs),
    )
    .addOption(flag('--config <file>', 'these settings as YAML, keys in camelCase'));

function toOptions(flags: ControllerFlags): ControllerOptions {
  const files = transport(flags);
  return {
    sources: flags.source ?? [],
    listen: flags.listen,
    http: flags.http,
    serviceCidrs: flags.serviceCidr,
    clustersetCidrs: flags.clustersetCidr ?? [],
    clusterLeaseMs: flags.clusterLease,
    stateDir: flags.stateDir ?? null,
    settleMs: flags.settle,
    gateClients: flags.gateClients,
    gatesKnowAll: flags.gatesKnowAll ?? false,
    ...(flags.readinessGates && { readinessGates: { ignoreGoneMs: flags.gateIgnoreGone } }),
    kubeconfig: flags.kubeconfig ?? null,
    etcdTls: etcdTlsFiles(flags),
    security:
      files.t === 'mtls'
        ? { t: 'mtls', files: { cert: files.certFile, key: files.keyFile, ca: files.caFile } }
        : { t: 'insecure', allowRemote: flags.insecureAllowRemote ?? false },
    release,
  };
}

/** [NAME=]KIND:TARGET. Not split at commas: etcd takes several URLs. */
export function sources(value: string, previous: readonly SourceOption[] | undefined): readonly SourceOption[] {
  const match = /^(?:([a-z0-9][a-z0-9.-]*)=)?(file|etcd|kubernetes):(.*)$/.exec(value);
  const [, name, kind, target] = match ?? [];
  if (kind === undefined || target === undefined || (target === '' && kind !== 'kubernetes'))
    throw new InvalidArgumentError('Write [NAME=]file:DIR, [NAME=]etcd:URL or [NAME=]kubernetes:[CONTEXT].');
  return [...(previous ?? []), { name: name ?? kind, kind: kind as SourceOption['kind'], target }];
}

export const cidrs = (value: string, previous: readonly Cidr[]): readonly Cidr[] => [
  ...previous,
  ...list(value, undefined).map((text) => {
    const cidr = parseCidr(text);
    if (!cidr) throw new InvalidArgumentError(`"${text}" is not a network such as 10.96.0.0/12.`);
    return cidr;
  }),
];

/** Replaces the default as a whole. */
export function serviceCidrs(value: string, previous: readonly Cidr[]): readonly Cidr[] {
  const all = cidrs(value, previous.includes(defaultServiceCidr) ? [] : previous);
  if (new Set(all.map(({ ip }) => familyOf(ip))).size < all.length)
    throw new InvalidArgumentError('Give at most one IPv4 and one IPv6 network.');
  return all;
}
