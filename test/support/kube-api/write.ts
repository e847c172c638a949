import { apiVersionOf, type Target } from './resources.ts';
import { badRequest, invalid, notFound, StatusError } from './status.ts';
import { type Collection, type Manifest, parsed, recordOf, type Store, type Stored } from './store.ts';

export type PatchKind = 'merge' | 'strategic';

/** Writes by the rules of the API: optimistic concurrency, subresources, and what the server fills in. All throw StatusError. */
export class Writes {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  get(target: Target): Stored {
    return this.#found(target).stored;
  }

  create(target: Target, manifest: Manifest): Stored {
    const { resource, namespace } = target;
    const metadata = this.#checked(target, manifest);
    if (metadata['resourceVersion'] !== undefined && metadata['resourceVersion'] !== '')
      throw badRequest('resourceVersion should not be set on objects to be created');
    const name = metadata['name'] ?? generated(metadata['generateName']);
    if (typeof name !== 'string' || name === '')
      throw invalid('metadata.name: Required value: name or generateName is required');
    if (this.#store.collection(resource).get(`${namespace}/${name}`))
      throw new StatusError(409, 'AlreadyExists', `${resource.plural} "${name}" already exists`);
    const { status: _, ...spec } = manifest;
    const { uid: _uid, creationTimestamp: _created, ...given } = metadata;
    return this.#store.put(resource, {
      ...(resource.statusSubresource ? spec : manifest),
      metadata: { ...given, name, namespace, generation: 1 },
    });
  }

  update(target: Target, manifest: Manifest): Stored {
    const { stored, collection } = this.#found(target);
    const metadata = this.#checked(target, manifest);
    if (metadata['name'] !== target.name) throw badRequest('the name of the object does not match the name on the URL');
    return this.#replace(target, collection, stored, manifest);
  }

  /** A merge patch is RFC 7386; a strategic one puts conditions together by their type. */
  patch(target: Target, patch: Manifest, kind: PatchKind): Stored {
    const { stored, collection } = this.#found(target);
    const before = parsed(stored);
    const next = merged(before, kind === 'strategic' ? withConditions(before, patch) : patch) as Manifest;
    return this.#replace(target, collection, stored, next, patch);
  }

  remove(target: Target, options: Manifest): Stored {
    const { stored } = this.#found(target);
    const preconditions = recordOf(options['preconditions']);
    const metadata = recordOf(parsed(stored)['metadata']);
    for (const field of ['uid', 'resourceVersion'])
      if (preconditions[field] !== undefined && preconditions[field] !== metadata[field])
        throw conflict(target, `the ${field} in the precondition does not match`);
    return this.#store.remove(target.resource, stored.key) ?? stored;
  }

  /** `asked`: what carries the resourceVersion that must not have moved; a patch may do without. */
  #replace(target: Target, collection: Collection, stored: Stored, next: Manifest, asked: Manifest = next): Stored {
    const { resource, subresource } = target;
    const before = parsed(stored);
    const old = recordOf(before['metadata']);
    const wanted = recordOf(asked['metadata'])['resourceVersion'];
    if (wanted !== undefined && wanted !== '' && wanted !== old['resourceVersion'])
      throw conflict(
        target,
        'the object has been modified; please apply your changes to the latest version and try again',
      );
    const uid = recordOf(asked['metadata'])['uid'];
    if (uid !== undefined && uid !== old['uid']) throw conflict(target, 'Precondition failed: UID in precondition');
    const metadata = { ...recordOf(next['metadata']), uid: old['uid'], creationTimestamp: old['creationTimestamp'] };
    const content =
      subresource === 'status'
        ? { ...before, status: next['status'] }
        : { ...next, metadata, ...(resource.statusSubresource ? { status: before['status'] } : {}) };
    // What changes nothing writes nothing, and makes no event.
    if (withoutRevision(content) === withoutRevision(before)) return stored;
    return this.#store.put(collection.resource, content);
  }

  #found(target: Target): { readonly collection: Collection; readonly stored: Stored } {
    const collection = this.#store.collection(target.resource);
    const stored = collection.get(`${target.namespace}/${target.name}`);
    if (!stored) throw notFound(`${target.resource.plural} "${target.name}"`);
    return { collection, stored };
  }

  #checked({ resource, namespace }: Target, manifest: Manifest): Readonly<Record<string, unknown>> {
    const { apiVersion, kind } = manifest;
    if (apiVersion !== apiVersionOf(resource) || kind !== resource.kind)
      throw badRequest(
        `${String(apiVersion)} ${String(kind)} in the body is not ${apiVersionOf(resource)} ${resource.kind}`,
      );
    const metadata = recordOf(manifest['metadata']);
    if (metadata['namespace'] !== undefined && metadata['namespace'] !== namespace)
      throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
    return metadata;
  }
}

const conflict = ({ resource, name }: Target, why: string): StatusError =>
  new StatusError(409, 'Conflict', `Operation cannot be fulfilled on ${resource.plural} "${name}": ${why}`);

const withoutRevision = (manifest: Manifest): string => {
  const { resourceVersion: _, ...metadata } = recordOf(manifest['metadata']);
  return JSON.stringify({ ...manifest, metadata: sorted(metadata) });
};

const sorted = (fields: Readonly<Record<string, unknown>>): object =>
  Object.fromEntries(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)));

let generations = 0;
const generated = (prefix: unknown): string =>
  typeof prefix === 'string' ? `${prefix}${(++generations).toString(36).padStart(5, '0')}` : '';

/** status.conditions has patchMergeKey "type"; no other list is patched here. */
function withConditions(before: Manifest, patch: Manifest): Manifest {
  const status = recordOf(patch['status']);
  const given = status['conditions'];
  if (!Array.isArray(given)) return patch;
  const all = new Map<unknown, unknown>();
  const old = recordOf(before['status'])['conditions'];
  for (const condition of [...(Array.isArray(old) ? old : []), ...given]) {
    const { type } = recordOf(condition);
    if (typeof type !== 'string') throw invalid('status.conditions: does not contain declared merge key: type');
    all.set(type, merged(all.get(type), condition));
  }
  return { ...patch, status: { ...status, conditions: [...all.values()] } };
}

function merged(base: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = { ...recordOf(base) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key], value);
  }
  return result;
}
