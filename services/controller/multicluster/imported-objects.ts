import type { Ip } from '@octoplane/model/address.ts';
import { type ServiceName, serviceName } from '@octoplane/model/keys.ts';
import type { EndpointSlice, Service } from '@octoplane/model/objects.ts';
import type { DerivedImport } from './derive-import.ts';

/**
 * As what an import is known in rule sets: "NAMESPACE/NAME.clusterset", which no Service can be called, because a Service's name has no dot. It
 * is beside the cluster's own Service of that name, whose address and endpoints stay as they are.
 */
export function importedName(name: ServiceName): ServiceName {
  const [namespace = '', short = ''] = name.split('/');
  return serviceName(namespace, `${short}.clusterset`);
}

/** Null for what is not an import. */
export function exportedName(name: ServiceName): ServiceName | null {
  const end = name.lastIndexOf('.clusterset');
  return end < 0 || end + '.clusterset'.length < name.length ? null : (name.slice(0, end) as ServiceName);
}

/** The import as a Service of one cluster. */
export function importedService(derived: DerivedImport, ips: readonly Ip[], cluster: string): Service {
  const { affinityTimeoutSeconds, internalTrafficPolicy, trafficDistribution, leader } = derived;
  return {
    name: importedName(derived.name),
    type: 'ClusterIP',
    clusterIps: ips,
    headless: derived.type === 'Headless',
    ipFamilies: derived.families,
    ipFamilyPolicy: derived.families.length > 1 ? 'PreferDualStack' : 'SingleStack',
    externalIps: [],
    loadBalancerIps: [],
    ports: derived.ports.map((port) => ({ ...port, nodePort: 0 })),
    allocateNodePorts: false,
    internalTrafficPolicy,
    externalTrafficPolicy: 'Cluster',
    affinityTimeoutSeconds,
    sourceRanges: [],
    healthCheckNodePort: 0,
    trafficDistribution,
    foreignProxy: false,
    ...(trafficDistribution === null ? {} : { preferredCluster: cluster }),
    meta: leader.export.meta,
  };
}

/**
 * The slices of all members as one cluster sees them: its own with their nodes, for Local policies and node hints; those of others without,
 * because a node of the same name there is another node.
 */
export function importedSlices(derived: DerivedImport, cluster: string): readonly EndpointSlice[] {
  if (derived.type === 'Headless') return [];
  const service = importedName(derived.name);
  return derived.members.flatMap(({ exported, portNames }) =>
    exported.slices
      .filter(({ headless }) => !headless)
      .map((slice) => ({
        ...slice,
        name: `${slice.name}.${exported.cluster}`,
        service,
        cluster: exported.cluster,
        ports: slice.ports.filter(({ name }) => portNames.has(name)),
        endpoints: exported.cluster === cluster ? slice.endpoints : slice.endpoints.map(elsewhere),
      })),
  );
}

const elsewhere = (endpoint: EndpointSlice['endpoints'][number]): EndpointSlice['endpoints'][number] => ({
  ...endpoint,
  node: null,
  nodeHints: [],
});
