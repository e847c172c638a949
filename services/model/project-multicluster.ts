import { describe, type Fields, type Findings, isFields, type Path } from './findings.ts';
import { serviceName } from './keys.ts';
import type { ClusterObject, ExportCondition } from './objects.ts';
import type { ObjectId } from './project.ts';
import { readReachableIp } from './project-address.ts';
import { type Origin, readMetadata } from './project-meta.ts';

const managedByLabel = 'app.kubernetes.io/managed-by';
/** On the ServiceImports that a controller of ours writes. */
export const managedByUs: Readonly<Record<string, string>> = { [managedByLabel]: 'octoplane' };

/** KEP-1645: a Service of this name is to be reachable from other clusters. */
export function projectServiceExport(
  manifest: Fields,
  origin: Origin,
  findings: Findings,
): { id: ObjectId; object: ClusterObject } {
  const metadata = readMetadata(manifest, origin, findings, { namespaced: true, name: 'label' });
  const name = serviceName(metadata.namespace, metadata.name);
  return {
    id: { kind: 'ServiceExport', name: metadata.name === '' ? '' : name },
    object: {
      kind: 'ServiceExport',
      export: { name, conditions: conditions(manifest, findings), meta: metadata.meta },
    },
  };
}

/** Of a ServiceImport the addresses count: they are the record of what was given out. The rest tells whether it has to be written anew. */
export function projectServiceImport(
  manifest: Fields,
  origin: Origin,
  findings: Findings,
): { id: ObjectId; object: ClusterObject } {
  const metadata = readMetadata(manifest, origin, findings, { namespaced: true, name: 'label' });
  const name = serviceName(metadata.namespace, metadata.name);
  const spec = findings.fields(manifest, 'spec', []);
  const ips = findings.list(spec, 'ips', ['spec']).flatMap((value, i) => {
    const ip = readReachableIp(value, ['spec', 'ips', i], findings, null);
    return ip === null ? [] : [ip];
  });
  const managed = metadata.labels[managedByLabel] === managedByUs[managedByLabel];
  return {
    id: { kind: 'ServiceImport', name: metadata.name === '' ? '' : name },
    object: {
      kind: 'ServiceImport',
      import: { name, ips, managed, shape: shapeOfImport(manifest), meta: metadata.meta },
    },
  };
}

/** Defaults written out, addresses left aside. */
export function shapeOfImport(manifest: Fields): string {
  const spec = fieldsOf(manifest['spec']);
  const clientIp = fieldsOf(fieldsOf(spec['sessionAffinityConfig'])['clientIP']);
  const ports = listOf(spec['ports']).map(fieldsOf);
  const clusters = listOf(fieldsOf(manifest['status'])['clusters']).map(fieldsOf);
  return JSON.stringify({
    type: spec['type'],
    ports: ports.map(({ name = '', protocol = 'TCP', port }) => ({ name, protocol, port })),
    affinity: spec['sessionAffinity'] === 'ClientIP' ? (clientIp['timeoutSeconds'] ?? 10_800) : 0,
    families: spec['ipFamilies'] ?? [],
    policy: spec['internalTrafficPolicy'] ?? 'Cluster',
    distribution: spec['trafficDistribution'] ?? null,
    clusters: clusters.map(({ cluster }) => cluster),
  });
}

const fieldsOf = (value: unknown): Fields => (isFields(value) ? value : {});
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

function conditions(manifest: Fields, findings: Findings): readonly ExportCondition[] {
  const status = findings.fields(manifest, 'status', []);
  return findings.list(status, 'conditions', ['status']).map((value, i) => {
    const path: Path = ['status', 'conditions', i];
    const item = findings.item(value, path);
    const word = findings.text(item, 'status', path);
    const known = (['True', 'False', 'Unknown'] as const).find((each) => each === word);
    if (known === undefined) findings.warn([...path, 'status'], `${describe(word)} is unknown`, 'use True or False');
    return {
      type: findings.text(item, 'type', path),
      status: known ?? 'Unknown',
      reason: findings.text(item, 'reason', path),
      message: findings.text(item, 'message', path),
    };
  });
}
