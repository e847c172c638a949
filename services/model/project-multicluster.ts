import { describe, type Fields, type Findings, type Path } from './findings.ts';
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

/** Of a ServiceImport only the addresses are read: they are the record of what was given out. */
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
    object: { kind: 'ServiceImport', import: { name, ips, managed, meta: metadata.meta } },
  };
}

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
