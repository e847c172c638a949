import type { Logger } from 'pino';
import type { ControllerOptions, SourceOption } from '../options.ts';
import { StartError } from '../start-error.ts';
import { EtcdSource } from './etcd/etcd-source.ts';
import { FileSource } from './file/file-source.ts';
import type { Gatekeeper } from './kubernetes/gatekeeper.ts';
import { KubernetesSource } from './kubernetes/kubernetes-source.ts';
import { type Source, SourceError } from './source.ts';

export interface OpenOptions extends Pick<ControllerOptions, 'kubeconfig' | 'etcdTls'> {
  readonly logger: Logger;
  /** Null: readiness gates are nobody's business here. */
  readonly gatekeeper: Gatekeeper | null;
  /** One of several. */
  readonly multicluster: boolean;
}

/** Every kind of source there is. */
export function openSource(
  { name, kind, target }: SourceOption,
  { logger, etcdTls, kubeconfig, gatekeeper, multicluster }: OpenOptions,
): Source {
  switch (kind) {
    case 'file':
      return new FileSource({ name, directory: target, logger });
    case 'etcd':
      return configured(() => new EtcdSource({ name, urls: target, logger, ...(etcdTls && { tls: etcdTls }) }));
    case 'kubernetes':
      return new KubernetesSource({
        name,
        context: target,
        kubeconfig,
        logger,
        multicluster,
        ...(gatekeeper && { gatekeeper }),
      });
  }
}

/** What is wrong with the words behind --source ends the start. */
function configured(open: () => Source): Source {
  try {
    return open();
  } catch (error) {
    throw error instanceof SourceError ? new StartError('SOURCE', error.message, { cause: error }) : error;
  }
}
