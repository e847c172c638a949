import { type Fields, isFields } from '@octoplane/model/findings.ts';
import type { GatedPod } from './gated-pod.ts';
import type { KubeClient } from './kube-client.ts';
import { pathOf, type Resource } from './resource-path.ts';

/** Who opens the gates of Pods, as their source sees him (acks/readiness-gates.ts). */
export interface Gatekeeper {
  /** Null: it is gone, or has no gate any more. `cluster`: whose Pod it is. */
  podChanged(cluster: GateCluster, name: string, pod: GatedPod | null): void;
}

export interface GateCluster {
  /** Of the source. */
  readonly name: string;
  /**
   * A strategic merge patch, because that leaves alone the conditions of others.
   * @throws KubeError; CONFLICT: another Pod has the name by now
   */
  patchStatus(pod: Pick<GatedPod, 'name' | 'uid'>, status: object, signal: AbortSignal): Promise<void>;
}

export const podResource: Resource = { group: '', version: 'v1', plural: 'pods' };

/** "NAMESPACE/NAME" */
export function podName(manifest: Fields): string {
  const metadata = isFields(manifest['metadata']) ? manifest['metadata'] : {};
  return `${String(metadata['namespace'])}/${String(metadata['name'])}`;
}

export const gateClusterOf = (name: string, client: KubeClient): GateCluster => ({
  name,
  async patchStatus(pod, status, signal) {
    const [namespace = '', podOnly = ''] = pod.name.split('/');
    const path = pathOf(podResource, { namespace, name: podOnly, subresource: 'status' });
    const contentType = 'application/strategic-merge-patch+json';
    const body = { metadata: { uid: pod.uid }, status };
    await client.json({ method: 'PATCH', path, body, contentType }, signal);
  },
});
