import { type Fields, Findings, isFields, type Problem } from './findings.ts';
import type { ClusterObject, ObjectMeta } from './objects.ts';
import { projectEndpointSlice } from './project-endpoint-slice.ts';
import type { Origin } from './project-meta.ts';
import { projectServiceExport, projectServiceImport } from './project-multicluster.ts';
import { projectNode } from './project-node.ts';
import { projectService } from './project-service.ts';

/**
 * From an untrusted Kubernetes manifest to a valid object of objects.ts, or to the reasons why there is none. The rules
 * are those of the Kubernetes API's own validation, as far as the fields are used here.
 */
export type Projection =
  | { readonly t: 'object'; readonly object: ClusterObject; readonly warnings: readonly Problem[] }
  /** `id` is null where not even the name can be read. */
  | { readonly t: 'refused'; readonly id: ObjectId | null; readonly problems: readonly Problem[] }
  /** A manifest of a kind that does not concern a proxy. */
  | { readonly t: 'foreign'; readonly what: string };

export type Kind = ClusterObject['kind'];

/** "NAME" for Nodes, "NAMESPACE/NAME" for the others. */
export interface ObjectId {
  readonly kind: Kind;
  readonly name: string;
}

/** "Service default/web": as messages call an object; different objects have different texts. */
export const formatId = (id: ObjectId): string => `${id.kind} ${id.name}`;

export function idOf(object: ClusterObject): ObjectId {
  switch (object.kind) {
    case 'Service':
      return { kind: 'Service', name: object.service.name };
    case 'EndpointSlice':
      return { kind: 'EndpointSlice', name: object.slice.name };
    case 'Node':
      return { kind: 'Node', name: object.node.name };
    case 'ServiceExport':
      return { kind: 'ServiceExport', name: object.export.name };
    case 'ServiceImport':
      return { kind: 'ServiceImport', name: object.import.name };
  }
}

export function metaOf(object: ClusterObject): ObjectMeta {
  switch (object.kind) {
    case 'Service':
      return object.service.meta;
    case 'EndpointSlice':
      return object.slice.meta;
    case 'Node':
      return object.node.meta;
    case 'ServiceExport':
      return object.export.meta;
    case 'ServiceImport':
      return object.import.meta;
  }
}

/** Both versions of the multi-cluster API have the fields that are read here. */
const multicluster = ['multicluster.x-k8s.io/v1alpha1', 'multicluster.x-k8s.io/v1beta1'];

const groupVersions: Readonly<Record<Kind, readonly string[]>> = {
  Service: ['v1'],
  EndpointSlice: ['discovery.k8s.io/v1'],
  Node: ['v1'],
  ServiceExport: multicluster,
  ServiceImport: multicluster,
};

const projectors: Readonly<
  Record<Kind, (manifest: Fields, origin: Origin, findings: Findings) => { id: ObjectId; object: ClusterObject }>
> = {
  Service: projectService,
  EndpointSlice: projectEndpointSlice,
  Node: projectNode,
  ServiceExport: projectServiceExport,
  ServiceImport: projectServiceImport,
};

export function project(manifest: unknown, origin: Origin): Projection {
  const findings = new Findings();
  if (!isFields(manifest)) {
    findings.refuse([], 'the document is not a mapping', 'write apiVersion, kind and metadata at its top');
    return { t: 'refused', id: null, problems: findings.problems };
  }
  const kind = manifest['kind'];
  if (typeof kind !== 'string' || kind === '') {
    findings.refuse(['kind'], 'the document has no kind', 'write apiVersion and kind, such as v1 and Service');
    return { t: 'refused', id: null, problems: findings.problems };
  }
  if (!isKind(kind) || !groupVersions[kind].some((version) => version === manifest['apiVersion']))
    return { t: 'foreign', what: `${String(manifest['apiVersion'] ?? 'no apiVersion')} ${kind}` };
  const { id, object } = projectors[kind](manifest, origin, findings);
  if (findings.problems.length === 0) return { t: 'object', object, warnings: findings.warnings };
  return { t: 'refused', id: id.name.endsWith('/') || id.name === '' ? null : id, problems: findings.problems };
}

const isKind = (kind: string): kind is Kind => Object.hasOwn(groupVersions, kind);

/**
 * The items of a `v1` List, and of the lists that the API itself answers with (ServiceList and so on, whose items do not
 * repeat their kind). Null when the manifest is no list.
 */
export function listItems(manifest: unknown): readonly unknown[] | null {
  if (!isFields(manifest) || typeof manifest['kind'] !== 'string' || !manifest['kind'].endsWith('List')) return null;
  const items = manifest['items'];
  if (!Array.isArray(items)) return null;
  const kind = manifest['kind'].slice(0, -'List'.length);
  if (kind === '') return items;
  return items.map((item) => (isFields(item) ? { apiVersion: manifest['apiVersion'], kind, ...item } : item));
}
