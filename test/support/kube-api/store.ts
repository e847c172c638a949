import { randomUUID } from 'node:crypto';
import { apiVersionOf, type ServedResource } from './resources.ts';
import type { Labels } from './selector.ts';

/** A stored object. Never changed: a write makes another one. */
export interface Stored {
  /** "NAMESPACE/NAME", or "/NAME". */
  readonly key: string;
  readonly namespace: string;
  readonly labels: Labels;
  readonly revision: number;
  /** The object as JSON, with its resourceVersion. */
  readonly json: Buffer;
}

export interface Change {
  readonly revision: number;
  /** Null: it was created. */
  readonly before: Stored | null;
  /** Of a deletion: its last state, under the revision of the deletion. */
  readonly after: Stored;
  readonly deleted: boolean;
}

export type Manifest = Readonly<Record<string, unknown>>;

/** One resource: what is there, and what has happened to it since the last compaction. */
export class Collection {
  readonly resource: ServedResource;
  readonly #objects = new Map<string, Stored>();
  readonly listeners = new Set<(change: Change) => void>();
  changes: Change[] = [];
  /** Changes up to here are forgotten. */
  compactedTo = 0;
  #sorted: readonly Stored[] | null = null;

  constructor(resource: ServedResource) {
    this.resource = resource;
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): Stored | null {
    return this.#objects.get(key) ?? null;
  }

  /** In the order of their keys, as etcd has them. The array is nobody's to change, and a snapshot. */
  all(): readonly Stored[] {
    this.#sorted ??= [...this.#objects.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    return this.#sorted;
  }

  /** In the order of keys, as they were at a revision that is not compacted. */
  at(revision: number): readonly Stored[] {
    const objects = new Map(this.#objects);
    for (let i = this.changes.length - 1; i >= 0; i--) {
      const change = this.changes[i];
      if (!change || change.revision <= revision) break;
      if (change.before) objects.set(change.before.key, change.before);
      else objects.delete(change.after.key);
    }
    return [...objects.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  record(change: Change): void {
    const { key } = change.after;
    if (change.deleted) this.#objects.delete(key);
    else this.#objects.set(key, change.after);
    this.#sorted = null;
    this.changes.push(change);
    for (const listener of this.listeners) listener(change);
  }
}

/** All collections under one counter of revisions, as in one etcd. */
export class Store {
  readonly #collections: ReadonlyMap<string, Collection>;
  revision = 1;
  /** Revisions before this one are forgotten. */
  compactedTo = 0;

  constructor(resources: readonly ServedResource[]) {
    this.#collections = new Map(
      resources.map((resource) => [`${resource.group}/${resource.plural}`, new Collection(resource)]),
    );
  }

  collection({ group, plural }: Pick<ServedResource, 'group' | 'plural'>): Collection {
    const collection = this.#collections.get(`${group}/${plural}`);
    if (!collection) throw new Error(`the stand-in keeps no ${plural}`);
    return collection;
  }

  /** Forgets what led to the present state, as etcd's compaction and a watch cache that is too short do. */
  compact(to = this.revision): void {
    this.compactedTo = to;
    for (const collection of this.#collections.values()) {
      collection.compactedTo = to;
      collection.changes = collection.changes.filter(({ revision }) => revision > to);
    }
  }

  /** Creates or replaces; what the server fills in is filled in, or kept. */
  put(resource: ServedResource, manifest: Manifest): Stored {
    const collection = this.collection(resource);
    const metadata = recordOf(manifest['metadata']);
    const namespace = resource.namespaced ? String(metadata['namespace'] ?? 'default') : '';
    const key = `${namespace}/${String(metadata['name'])}`;
    const before = collection.get(key);
    const old = before === null ? {} : recordOf(parsed(before)['metadata']);
    const revision = ++this.revision;
    const stored = storedOf(key, revision, {
      apiVersion: apiVersionOf(resource),
      kind: resource.kind,
      ...manifest,
      metadata: {
        uid: old['uid'] ?? randomUUID(),
        creationTimestamp: old['creationTimestamp'] ?? new Date().toISOString().replace(/\.\d+/, ''),
        ...metadata,
        ...(resource.namespaced ? { namespace } : {}),
        resourceVersion: String(revision),
      },
    });
    collection.record({ revision, before, after: stored, deleted: false });
    return stored;
  }

  /** Null: it was not there. */
  remove(resource: ServedResource, key: string): Stored | null {
    const collection = this.collection(resource);
    const before = collection.get(key);
    if (before === null) return null;
    const revision = ++this.revision;
    const manifest = parsed(before);
    const after = storedOf(key, revision, {
      ...manifest,
      metadata: { ...recordOf(manifest['metadata']), resourceVersion: String(revision) },
    });
    collection.record({ revision, before, after, deleted: true });
    return after;
  }
}

export const parsed = (stored: Stored): Manifest => JSON.parse(stored.json.toString()) as Manifest;

export const recordOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};

function storedOf(key: string, revision: number, manifest: Manifest): Stored {
  const { labels, namespace } = recordOf(manifest['metadata']);
  return {
    key,
    revision,
    namespace: String(namespace ?? ''),
    labels: recordOf(labels) as Labels,
    json: Buffer.from(JSON.stringify(manifest)),
  };
}
