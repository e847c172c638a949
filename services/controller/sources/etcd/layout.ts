import { formatId, type Kind, type ObjectId } from '@octoplane/model/project.ts';

/**
 * The keys:
 *
 *   /octoplane/v1/services/NAMESPACE/NAME         v1 Service
 *   /octoplane/v1/endpointslices/NAMESPACE/NAME   discovery.k8s.io/v1 EndpointSlice
 *   /octoplane/v1/nodes/NAME                      v1 Node
 *   /octoplane/v1/serviceexports/NAMESPACE/NAME   multicluster.x-k8s.io ServiceExport
 *   /octoplane/v1/serviceimports/NAMESPACE/NAME   multicluster.x-k8s.io ServiceImport, written by a controller
 *
 * Values are the objects as JSON. Beside them, and no objects:
 *
 *   /octoplane/v1/allocations/...                 who holds which address or port (allocations.ts)
 *   /octoplane/v1/leader                          the controller that leads, under its lease (etcd-leader.ts)
 *   /octoplane/v1/catch-up                        written by a controller that wants to know how far it has read (etcd-source.ts)
 */
export const root = '/octoplane/v1/';
export const allocationsRoot = `${root}allocations/`;
export const catchUpKey = `${root}catch-up`;

export const leaderKey = `${root}leader`;

export const isObjectKey = (key: string): boolean =>
  !key.startsWith(allocationsRoot) && key !== catchUpKey && key !== leaderKey;

/** Of the API, as in the URLs of an API server. */
export const collections: Readonly<Record<Kind, string>> = {
  Service: 'services',
  EndpointSlice: 'endpointslices',
  Node: 'nodes',
  ServiceExport: 'serviceexports',
  ServiceImport: 'serviceimports',
};

const kinds = Object.keys(collections) as readonly Kind[];

export const keyOf = (id: ObjectId): string => `${root}${collections[id.kind]}/${id.name}`;
export const collectionRoot = (kind: Kind): string => `${root}${collections[kind]}/`;

/** The object that a key is for; null when it is outside the layout. */
export function idOfKey(key: string): ObjectId | null {
  if (!key.startsWith(root)) return null;
  const [collection, ...name] = key.slice(root.length).split('/');
  const kind = kinds.find((candidate) => collections[candidate] === collection);
  if (kind === undefined || name.length !== (kind === 'Node' ? 1 : 2) || name.includes('')) return null;
  return { kind, name: name.join('/') };
}

/** The end, exclusive, of the range of all keys with a prefix. */
export function prefixEnd(prefix: Uint8Array): Buffer {
  const end = Buffer.from(prefix);
  for (let i = end.length - 1; i >= 0; i--) {
    const byte = end[i] ?? 0;
    if (byte === 0xff) continue;
    end[i] = byte + 1;
    return end.subarray(0, i + 1);
  }
  // "\0" as an end means: to the end of all keys.
  return Buffer.from([0]);
}

/** The first key behind another. */
export const keyAfter = (key: Uint8Array): Buffer => Buffer.concat([key, Buffer.from([0])]);

/** As a message calls what is at a key. */
export function describeKey(key: string): string {
  const id = idOfKey(key);
  return id === null ? key : formatId(id);
}
