import type { Fields } from '@octoplane/model/findings.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import type { ExportCondition } from '@octoplane/model/objects.ts';
import { shapeOfImport } from '@octoplane/model/project-multicluster.ts';
import type { OwnObjects } from '../state/cluster-state.ts';
import { importManifest } from './import-manifest.ts';
import type { ImportState } from './imports.ts';

/** What is to be written into one cluster. */
export type Write =
  | { readonly t: 'put import'; readonly name: ServiceName; readonly manifest: Fields }
  | { readonly t: 'delete import'; readonly name: ServiceName }
  | { readonly t: 'put conditions'; readonly name: ServiceName; readonly conditions: readonly ExportCondition[] };

/**
 * The difference between what a cluster has on record and what it should have. Pure. A ServiceImport of somebody else's is left alone.
 */
export function dueWrites(
  cluster: string,
  own: OwnObjects,
  states: ReadonlyMap<ServiceName, ImportState>,
): readonly Write[] {
  const writes: Write[] = [];
  for (const [name, { derived, placed }] of states) {
    const conditions = derived.conditions.get(cluster);
    const told = own.exports.get(name)?.conditions;
    if (conditions && told && !sameConditions(conditions, told)) writes.push({ t: 'put conditions', name, conditions });
    if (derived.import === null) continue;
    const ips = placed?.t === 'given' ? placed.ips : placed?.t === 'waiting' ? placed.wanted : [];
    // Without an address there is nothing to write yet, unless it never gets one.
    if (ips.length === 0 && derived.import.type === 'ClusterSetIP') continue;
    const manifest = importManifest(derived.import, ips);
    const found = own.imports.get(name);
    const isRight = found?.ips.join() === ips.join() && found.shape === shapeOfImport(manifest);
    if (found === undefined || (found.managed && !isRight)) writes.push({ t: 'put import', name, manifest });
  }
  for (const [name, { managed }] of own.imports)
    if (managed && (states.get(name)?.derived.import ?? null) === null) writes.push({ t: 'delete import', name });
  return writes;
}

const sameConditions = (wanted: readonly ExportCondition[], told: readonly ExportCondition[]): boolean =>
  wanted.every((condition) => told.some((other) => textOf(other) === textOf(condition)));

const textOf = ({ type, status, reason, message }: ExportCondition): string =>
  [type, status, reason, message].join('\n');
