import type { Ip } from '@octoplane/model/address.ts';
import type { Fields } from '@octoplane/model/findings.ts';
import type { ExportCondition } from '@octoplane/model/objects.ts';
import { managedByUs } from '@octoplane/model/project-multicluster.ts';
import type { DerivedImport } from './derive-import.ts';

export const multiclusterVersion = 'multicluster.x-k8s.io/v1alpha1';

/** An import as it is written into every cluster. */
export function importManifest(derived: DerivedImport, ips: readonly Ip[]): Fields {
  const [namespace = '', name = ''] = derived.name.split('/');
  const { affinityTimeoutSeconds, trafficDistribution } = derived;
  return {
    apiVersion: multiclusterVersion,
    kind: 'ServiceImport',
    metadata: { namespace, name, labels: managedByUs },
    spec: {
      type: derived.type,
      ...(ips.length > 0 ? { ips } : {}),
      ports: derived.ports.map((port) => ({
        ...(port.name === '' ? {} : { name: port.name }),
        protocol: port.protocol,
        port: port.port,
      })),
      sessionAffinity: affinityTimeoutSeconds > 0 ? 'ClientIP' : 'None',
      ...(affinityTimeoutSeconds > 0
        ? { sessionAffinityConfig: { clientIP: { timeoutSeconds: affinityTimeoutSeconds } } }
        : {}),
      ...(derived.families.length > 0 ? { ipFamilies: derived.families } : {}),
      internalTrafficPolicy: derived.internalTrafficPolicy,
      ...(trafficDistribution === null ? {} : { trafficDistribution }),
    },
    status: { clusters: derived.exporters.map((cluster) => ({ cluster })) },
  };
}

/** `before`: as they are; a condition whose status stays keeps the time of its last change. */
export function conditionsManifest(
  conditions: readonly ExportCondition[],
  before: readonly unknown[],
  nowMs: number,
): readonly Fields[] {
  return conditions.map(({ type, status, reason, message }) => {
    const same = before.find(
      (each): each is Fields =>
        typeof each === 'object' &&
        each !== null &&
        'type' in each &&
        each.type === type &&
        'status' in each &&
        each.status === status,
    );
    const now = new Date(nowMs).toISOString().replace(/\.\d+Z$/, 'Z');
    return { type, status, reason, message, lastTransitionTime: same?.['lastTransitionTime'] ?? now };
  });
}
