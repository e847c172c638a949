import { type Fields, formatProblem, isFields } from '@octoplane/model/findings.ts';
import type { Service } from '@octoplane/model/objects.ts';
import { type Kind, project } from '@octoplane/model/project.ts';
import type { ReadObject } from '../object-table.ts';
import type { Resource } from './resource-path.ts';

/** A resource that a cluster's source watches. */
export interface Watched {
  readonly resource: Resource;
  readonly kind: Kind;
  readonly labelSelector?: string;
}

/** What is for another proxy, or for none, does not even travel (P41, P42); a label that comes or goes is an event all the same. */
const forThisProxy = '!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name';

const multiclusterGroup = 'multicluster.x-k8s.io';

export const watched = {
  services: {
    resource: { group: '', version: 'v1', plural: 'services' },
    kind: 'Service',
    labelSelector: forThisProxy,
  },
  endpointslices: {
    resource: { group: 'discovery.k8s.io', version: 'v1', plural: 'endpointslices' },
    kind: 'EndpointSlice',
    labelSelector: forThisProxy,
  },
  // Whole objects: taints and addresses are in no lighter form that the API offers.
  nodes: { resource: { group: '', version: 'v1', plural: 'nodes' }, kind: 'Node' },
  serviceexports: {
    resource: { group: multiclusterGroup, version: 'v1alpha1', plural: 'serviceexports' },
    kind: 'ServiceExport',
  },
  serviceimports: {
    resource: { group: multiclusterGroup, version: 'v1alpha1', plural: 'serviceimports' },
    kind: 'ServiceImport',
  },
} as const satisfies Readonly<Record<string, Watched>>;

export type Part = keyof typeof watched;
/** Of every cluster. */
export const parts: readonly Part[] = ['services', 'endpointslices', 'nodes'];
/** Of one cluster among several, if it has these resources. */
export const multiclusterParts: readonly Part[] = ['serviceexports', 'serviceimports'];

/** "services/default/web": names an object in messages, and in the table. */
export function keyOf(part: Part, manifest: Fields): string {
  const metadata = isFields(manifest['metadata']) ? manifest['metadata'] : {};
  const name = String(metadata['name'] ?? '(no name)');
  const namespace = metadata['namespace'];
  return namespace === undefined ? `${part}/${name}` : `${part}/${String(namespace)}/${name}`;
}

/** What an object says. Members of a list do not name their kind; it is filled in. Pure. */
export function readObject(part: Part, manifest: Fields, revision: number): ReadObject {
  const { kind, resource } = watched[part];
  const apiVersion = resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
  const whole = manifest['kind'] === undefined ? Object.assign(manifest, { apiVersion, kind }) : manifest;
  const projection = project(whole, { revision: String(revision), changedAtUs: null });
  switch (projection.t) {
    case 'foreign':
      return { t: 'refused', id: null, reason: `the API server answers with a ${projection.what} among ${part}` };
    case 'refused':
      return { t: 'refused', id: projection.id, reason: projection.problems.map(formatProblem).join('; ') };
    case 'object': {
      const { object } = projection;
      // Remarks are for people who write manifests; the API server has seen these through.
      if (object.kind !== 'Service') return { t: 'object', object, remarks: [] };
      const { service } = object;
      const wantsAddress = service.type !== 'ExternalName' && !service.headless;
      if (wantsAddress && service.clusterIps.length === 0)
        return {
          t: 'refused',
          id: { kind: 'Service', name: service.name },
          reason: 'spec.clusterIP: the Service has none; addresses are given out by its API server, see why it did not',
        };
      return { t: 'object', object: { kind: 'Service', service: asGiven(service) }, remarks: [] };
    }
  }
}

/** A cluster gives out its own addresses and node ports: nothing is added to what a Service has. */
const asGiven = (service: Service): Service => ({
  ...service,
  ipFamilyPolicy: 'SingleStack',
  allocateNodePorts: false,
});
