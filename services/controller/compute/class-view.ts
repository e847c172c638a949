import { DigestSums } from '@octoplane/model/digest.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { ClassId } from './batch.ts';

const noZone = '-';

/** Of the nodes of one zone of one cluster. `cluster` null: there is only one. */
export const classIdOf = (cluster: string | null, zone: string | null): ClassId =>
  cluster === null ? (zone ?? noZone) : `${cluster}/${zone ?? noZone}`;

export function zoneOfClass(cluster: string | null, id: ClassId): string | null {
  const zone = cluster === null ? id : id.slice(cluster.length + 1);
  return zone === noZone ? null : zone;
}

/** With several clusters; their names have no slash. */
export const clusterOfClass = (id: ClassId): string => id.slice(0, Math.max(0, id.indexOf('/')));

/** The rule set that the nodes of one zone share, with its digest. */
export class ClassView {
  readonly entries = new Map<ServicePortKey, Entry>();
  readonly sums = new DigestSums();

  replace(key: ServicePortKey, after: Entry | null): void {
    this.sums.replace(this.entries.get(key) ?? null, after);
    if (after === null) this.entries.delete(key);
    else this.entries.set(key, after);
  }
}
