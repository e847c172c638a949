import type { ClusterObject } from '@octoplane/model/objects.ts';
import { idOf, type ObjectId } from '@octoplane/model/project.ts';
import type { SourceEvent } from '../source.ts';
import { describeKey } from './layout.ts';
import type { ReadValue } from './read-value.ts';

interface Told {
  readonly id: ObjectId;
  readonly object: ClusterObject;
}

/**
 * What was told of each key. Pure: it is given what keys say, and answers with the events that follow. A bad value keeps what its key said
 * before.
 */
export class KeyTable {
  readonly #told = new Map<string, Told>();
  readonly #rejected = new Set<string>();
  /** Revision of the last change that was taken, good or bad. */
  readonly #revisions = new Map<string, number>();
  #services = 0;
  #endpoints = 0;

  get keys(): Iterable<string> {
    return this.#revisions.keys();
  }

  /** What was told and not taken back. */
  get told(): { readonly services: number; readonly endpoints: number } {
    return { services: this.#services, endpoints: this.#endpoints };
  }

  /** 0: nothing is known of the key. */
  revisionOf(key: string): number {
    return this.#revisions.get(key) ?? 0;
  }

  toldOf(key: string): Told | null {
    return this.#told.get(key) ?? null;
  }

  put(key: string, revision: number, read: ReadValue, observedAtUs: number): readonly SourceEvent[] {
    this.#revisions.set(key, revision);
    if (read.t === 'refused') {
      this.#rejected.add(key);
      const rejection = { place: key, object: describeKey(key), location: key, reason: read.reason };
      return [{ t: 'rejected', rejection, observedAtUs }];
    }
    const before = this.#told.get(key);
    if (before) this.#count(before.object, -1);
    this.#told.set(key, { id: idOf(read.object), object: read.object });
    this.#count(read.object, 1);
    return [...this.#clear(key), { t: 'upserted', object: read.object, observedAtUs }];
  }

  /** Removing what is not there is no event. */
  remove(key: string, revision: number, observedAtUs: number): readonly SourceEvent[] {
    this.#revisions.delete(key);
    const cleared = this.#clear(key);
    const told = this.#told.get(key);
    if (!told) return cleared;
    this.#told.delete(key);
    this.#count(told.object, -1);
    return [...cleared, { t: 'removed', id: told.id, revision: String(revision), changedAtUs: null, observedAtUs }];
  }

  #clear(key: string): readonly SourceEvent[] {
    return this.#rejected.delete(key) ? [{ t: 'cleared', place: key }] : [];
  }

  #count(object: ClusterObject, by: 1 | -1): void {
    if (object.kind === 'Service') this.#services += by;
    if (object.kind === 'EndpointSlice') this.#endpoints += by * object.slice.endpoints.length;
  }
}
