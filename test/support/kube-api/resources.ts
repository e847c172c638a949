/** A resource that the stand-in serves, and what of it the API machinery has to know. */
export interface ServedResource {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Its status is written through a path of its own, and only there. */
  readonly statusSubresource: boolean;
}

const resource = (
  apiVersion: string,
  plural: string,
  kind: string,
  traits: { readonly namespaced?: boolean; readonly status?: boolean } = {},
): ServedResource => {
  const [version = '', group = ''] = apiVersion.split('/').reverse();
  return {
    group,
    version,
    plural,
    kind,
    namespaced: traits.namespaced ?? true,
    statusSubresource: traits.status ?? false,
  };
};

export const servedResources: readonly ServedResource[] = [
  resource('v1', 'services', 'Service', { status: true }),
  resource('v1', 'pods', 'Pod', { status: true }),
  resource('v1', 'nodes', 'Node', { namespaced: false, status: true }),
  resource('v1', 'namespaces', 'Namespace', { namespaced: false, status: true }),
  resource('discovery.k8s.io/v1', 'endpointslices', 'EndpointSlice'),
  resource('networking.k8s.io/v1', 'servicecidrs', 'ServiceCIDR', { namespaced: false, status: true }),
  resource('coordination.k8s.io/v1', 'leases', 'Lease'),
  resource('events.k8s.io/v1', 'events', 'Event'),
  resource('multicluster.x-k8s.io/v1alpha1', 'serviceexports', 'ServiceExport', { status: true }),
  resource('multicluster.x-k8s.io/v1alpha1', 'serviceimports', 'ServiceImport', { status: true }),
];

export const apiVersionOf = ({ group, version }: ServedResource): string =>
  group === '' ? version : `${group}/${version}`;

/** What a URL names. */
export interface Target {
  readonly resource: ServedResource;
  /** Empty: across all namespaces, or not namespaced. */
  readonly namespace: string;
  /** Empty: the collection. */
  readonly name: string;
  readonly subresource: '' | 'status';
}

/** Null: there is no such path. */
export function targetOf(path: string, served: readonly ServedResource[]): Target | null {
  const parts = path.split('/').slice(1).map(decodeURIComponent);
  const [root, ...rest] = parts;
  if (root !== 'api' && root !== 'apis') return null;
  const group = root === 'api' ? '' : (rest.shift() ?? '');
  const version = rest.shift();
  const namespace = rest[0] === 'namespaces' && rest.length > 2 ? (rest.splice(0, 2)[1] ?? '') : '';
  const [plural, name = '', subresource = '', ...more] = rest;
  const found = served.find((one) => one.group === group && one.version === version && one.plural === plural);
  if (!found || more.length > 0 || (name === '' && rest.length > 1) || (namespace !== '' && !found.namespaced))
    return null;
  if (name !== '' && found.namespaced && namespace === '') return null;
  if (subresource !== '' && !(subresource === 'status' && found.statusSubresource)) return null;
  return { resource: found, namespace, name, subresource };
}
