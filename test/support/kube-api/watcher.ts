import {
  KubernetesSource,
  type KubernetesSourceOptions,
} from '@octoplane/controller/sources/kubernetes/kubernetes-source.ts';
import { pino } from 'pino';
import { SourceWatcher } from '../source-watcher.ts';
import type { KubeApiServer } from './kube-api-server.ts';
import { KubeconfigFile } from './kubeconfig-file.ts';

/** A running Kubernetes source, what it has told, and the kubeconfig that it uses. */
export class KubeWatcher extends SourceWatcher {
  readonly config: KubeconfigFile;

  constructor(server: Pick<KubeApiServer, 'url'>, options: Partial<KubernetesSourceOptions> = {}) {
    const config = new KubeconfigFile({ east: { server: server.url } });
    const logger = pino({ level: 'silent' });
    super(new KubernetesSource({ name: 'east', context: '', kubeconfig: config.path, logger, ...options }));
    this.config = config;
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    this.config[Symbol.dispose]();
  }
}
