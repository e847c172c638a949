import type { ClusterObject } from '@octoplane/model/objects.ts';
import { formatId, idOf, type ObjectId } from '@octoplane/model/project.ts';
import type { SourceEvent } from './source.ts';

/** What a stored value says. */
export type ReadObject =
  | { readonly t: 'object'; readonly object: ClusterObject; readonly remarks: readonly string[] }
  /** `id` is null where no object can be told. */
  | { readonly t: 'refused'; readonly id: ObjectId | null; readonly reason: string };

interface Entry {
  /** Of the last change that was taken, good or bad. */
  readonly revision: number;
  /** What was told and not taken back. */
  readonly told: ClusterObject | null;
  readonly rejected: boolean;
}

/**
 * What was told of each key. Pure: it is given what keys say, and answers with the events that follow. A bad value keeps what its key said
 * before.
 */
export class ObjectTable {
  readonly #entries = new Map<string, Entry>();
  #services = 0;
  #endpoints = 0;

  get keys(): Iterable<string> {
    return this.#entries.keys();
  }

  /** What was told and not taken back. */
  get told(): { readonly services: number; readonly endpoints: number } {
    return { services: this.#services, endpoints: this.#endpoints };
  }

  /** 0: nothing is known of the key. */
  revisionOf(key: string): number {
    return this.#entries.get(key)?.revision ?? 0;
  }

  toldOf(key: string): ClusterObject | null {
    return this.#entries.get(key)?.told ?? null;
  }

  put(key: string, revision: number, read: ReadObject, observedAtUs: number): readonly SourceEvent[] {
    const before = this.#entries.get(key);
    if (read.t === 'refused') {
      this.#entries.set(key, { revision, told: before?.told ?? null, rejected: true });
      const object = read.id === null ? key : formatId(read.id);
      return [{ t: 'rejected', rejection: { place: key, object, location: key, reason: read.reason }, observedAtUs }];
    }
    if (before?.told) this.#count(before.told, -1);
    this.#entries.set(key, { revision, told: read.object, rejected: false });
    this.#count(read.object, 1);
    const upserted: SourceEvent = { t: 'upserted', object: read.object, observedAtUs };
    return before?.rejected ? [{ t: 'cleared', place: key }, upserted] : [upserted];
  }

  /** Removing what is not there is no event. */
  remove(key: string, revision: number, observedAtUs: number): readonly SourceEvent[] {
    const entry = this.#entries.get(key);
    if (!entry) return [];
    this.#entries.delete(key);
    const events: SourceEvent[] = entry.rejected ? [{ t: 'cleared', place: key }] : [];
    if (entry.told === null) return events;
    this.#count(entry.told, -1);
    const id = idOf(entry.told);
    events.push({ t: 'removed', id, revision: String(revision), changedAtUs: null, observedAtUs });
    return events;
  }

  #count(object: ClusterObject, by: 1 | -1): void {
    if (object.kind === 'Service') this.#services += by;
    if (object.kind === 'EndpointSlice') this.#endpoints += by * object.slice.endpoints.length;
  }
}
