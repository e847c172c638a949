import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import { EtcdLeader, leads } from '../leader/etcd-leader.ts';
import { KubeLeader } from '../leader/kube-leader.ts';
import type { Leader } from '../leader/leader.ts';
import type { ControllerOptions, SourceOption } from '../options.ts';
import { parseEndpoints } from '../sources/etcd/endpoints.ts';
import { EtcdMembers } from '../sources/etcd/members.ts';
import { KubeClient } from '../sources/kubernetes/kube-client.ts';
import { KubeconfigAccess } from '../sources/kubernetes/kubeconfig-access.ts';
import type { ClusterSet } from './cluster-set.ts';
import { type ClusterWriter, Recorder } from './recorder.ts';
import { EtcdWriter } from './writers/etcd-writer.ts';
import { KubeWriter } from './writers/kube-writer.ts';

export interface Recording {
  /** Something changed that may have to be written. */
  wake(): void;
  /** Writes whenever this controller leads, until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

/** Can the clusters of these sources be written to, one of them at least? With a single cluster nothing is written. */
export const isRecorded = (sources: readonly SourceOption[]): boolean =>
  sources.length > 1 && sources.some(({ kind }) => kind !== 'file');

/** The lease of the leader is in the first cluster that can be written to. */
export function openRecording(
  options: Pick<ControllerOptions, 'sources' | 'etcdTls' | 'kubeconfig'>,
  context: { readonly clusterSet: ClusterSet; readonly clock: Clock; readonly logger: Logger },
): Recording | null {
  if (!isRecorded(options.sources)) return null;
  const { clusterSet, clock, logger } = context;
  const identity = `${hostname()}_${randomUUID()}`;
  const writers = new Map<string, ClusterWriter>();
  const clients: KubeClient[] = [];
  let leader: Leader | null = null;
  for (const { name, kind, target } of options.sources) {
    if (kind === 'kubernetes') {
      const access = new KubeconfigAccess({ context: target, file: options.kubeconfig, clock });
      const client = new KubeClient({ access, clock, userAgent: 'octoplane-controller' });
      clients.push(client);
      writers.set(name, new KubeWriter(client, clock));
      leader ??= new KubeLeader({ client, identity, clock, logger });
    }
    if (kind !== 'etcd') continue;
    const members = new EtcdMembers(parseEndpoints(target), options.etcdTls);
    writers.set(name, new EtcdWriter(members, clock, leader === null ? leads(identity) : null));
    leader ??= new EtcdLeader({ members, identity, clock, logger });
  }
  if (leader === null) return null;
  const elected = leader;
  const recorder = new Recorder({ clusterSet, writers, clock, logger });
  return {
    wake: () => recorder.wake(),
    async run(signal) {
      try {
        await elected.lead((term) => recorder.run(term), signal);
      } finally {
        for (const client of clients) client.close();
      }
    },
  };
}
