import type { Cidr } from '@octoplane/model/address.ts';
import { clustersetSource } from './multicluster/imports.ts';
import type { EtcdTlsFiles } from './sources/etcd/members.ts';
import { StartError } from './start-error.ts';
import type { TlsFiles } from './tls/certificate-files.ts';

export interface ControllerOptions {
  /** --source, in order of precedence. At least one; names are unique. */
  readonly sources: readonly SourceOption[];
  /** --listen: gRPC for nodes and clients. Default 127.0.0.1:12090: nothing is open to others unless asked for. Port 0: any. */
  readonly listen: string;
  /** --http: health and metrics. Default 127.0.0.1:12091, for the same reason. */
  readonly http: string;
  /** --service-cidr: at most one per family. Default 10.96.0.0/12, as kubeadm's. */
  readonly serviceCidrs: readonly Cidr[];
  /** --clusterset-cidr: for Services that clusters export to each other; at most one per family. Default none: nobody knows which network is free. */
  readonly clustersetCidrs?: readonly Cidr[];
  /**
   * --cluster-lease: with several clusters, how long one may be silent before the others do without its endpoints, and before the controller starts without it.
   * 0: for ever. Default 15 min: longer than the upgrade of an API server takes.
   */
  readonly clusterLeaseMs?: number;
  /** --state-dir: keeps which Service was given which address, and which nodes there are. Default null: addresses follow from names, without memory. */
  readonly stateDir: string | null;
  /**
   * --settle: how long after its start the controller waits for nodes to come back before it believes that those it has not heard of do not
   * exist (acks/census.ts). Default 20 s: the longest pause of a node between two attempts, and the time of one.
   */
  readonly settleMs: number;
  /** --kubeconfig. Default null: as kubectl finds it. */
  readonly kubeconfig: string | null;
  /** --etcd-ca, --etcd-cert, --etcd-key: for every https etcd among the sources. Default: the machine's authorities, no certificate. */
  readonly etcdTls?: EtcdTlsFiles;
  /**
   * --gates-know-all: Node objects of which no daemon has connected to this controller hold up no gate and no hook. Default false: such a node may be
   * connected to another replica, and may route to whatever it likes.
   */
  readonly gatesKnowAll?: boolean;
  /**
   * --readiness-gates: open the gates of Pods (acks/readiness-gates.ts). Default: nobody does. It needs rights of its own
   * (deploy/kubernetes/rbac-gates.yaml), to write the status of every Pod.
   */
  readonly readinessGates?: {
    /**
     * --gate-ignore-gone: a node that has been disconnected for so long holds up no gate. Default 30 s: a daemon that restarts is back in
     * less, and a machine that fails must not stop every rollout.
     */
    readonly ignoreGoneMs: number;
  };
  /** --gate-clients: who may ask /gone and /programmed about endpoints that are not himself (http/gate.ts). Default: nobody but this machine. */
  readonly gateClients: readonly Cidr[];
  readonly security: Security;
  /** For people, in the logs and in `octoplane nodes`. */
  readonly release: string;
}

export interface SourceOption {
  /** Of the cluster; default: the kind. */
  readonly name: string;
  readonly kind: 'file' | 'etcd' | 'kubernetes';
  /** What follows "KIND:", a directory, URLs, or a context. */
  readonly target: string;
}

export type Security =
  /** --tls-cert, --tls-key, --tls-ca: mutual TLS. */
  | { readonly t: 'mtls'; readonly files: TlsFiles }
  /** --insecure: for a laptop. Anybody who reaches the port is any node and an admin. */
  | { readonly t: 'insecure'; readonly allowRemote: boolean };

export const defaultClusterLeaseMs = 15 * 60_000;

/** @throws StartError */
export function validateControllerOptions(options: ControllerOptions): void {
  const { sources, listen, security } = options;
  if (sources.length === 0)
    throw new StartError(
      'OPTIONS',
      'No --source is given; give at least one, for example --source file:/etc/octoplane.',
    );
  const names = new Set<string>();
  for (const { name } of sources) {
    if (names.has(name))
      throw new StartError('OPTIONS', `Two sources are named ${name}; name them with --source NAME=KIND:...`);
    names.add(name);
  }
  if (names.has(clustersetSource))
    throw new StartError(
      'OPTIONS',
      `No source may be named ${clustersetSource}; name it otherwise with --source NAME=KIND:...`,
    );
  if (security.t === 'insecure' && !security.allowRemote && !isLoopback(listen))
    throw new StartError(
      'INSECURE_REMOTE',
      `--insecure on ${listen} lets anybody there be any node; use --tls-..., a loopback address, or --insecure-allow-remote.`,
    );
}

/** Only what no other machine can reach. */
export function isLoopback(address: string): boolean {
  if (address.startsWith('unix:')) return true;
  const host = address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, '');
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}
