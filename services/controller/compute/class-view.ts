import { DigestSums } from '@octoplane/model/digest.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { ClassId } from './batch.ts';

const noZone = '-';

export const classIdOf = (zone: string | null): ClassId => zone ?? noZone;

export const zoneOfClass = (id: ClassId): string | null => (id === noZone ? null : id);

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
