import type { Family } from '@octoplane/model/keys.ts';
import type { Lab } from '../lab/lab.ts';
import type { Manifest } from '../lab/source-dir.ts';
import type { EndpointsSpec } from './scenario.ts';

const apiVersions: Readonly<Record<string, string>> = {
  Service: 'v1',
  Node: 'v1',
  EndpointSlice: 'discovery.k8s.io/v1',
};

/** A manifest of a scenario with what goes without saying: apiVersion and namespace. */
export function completeManifest(given: Readonly<Record<string, unknown>>): Manifest {
  const { kind, metadata } = given as { kind?: string; metadata?: { name?: string } };
  if (kind === undefined || metadata?.name === undefined) throw new Error('a manifest has a kind and metadata.name');
  const namespace = kind === 'Node' ? {} : { namespace: 'default' };
  return {
    apiVersion: apiVersions[kind] ?? 'v1',
    ...given,
    kind,
    metadata: { ...namespace, ...metadata, name: metadata.name },
  };
}

/** EndpointSlices, one for each family, as the control plane would write them for these pods. */
export function endpointSlices(lab: Lab, spec: EndpointsSpec, families: readonly Family[]): Manifest[] {
  const slice = spec.slice ?? spec.of;
  return (spec.families ?? families).map((family) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${slice}-${family.toLowerCase()}`,
      namespace: 'default',
      labels: { 'kubernetes.io/service-name': spec.of, ...spec.labels },
    },
    addressType: family,
    ports: endpointPorts(spec).map(({ port, name = '', protocol = 'TCP' }) => ({ name, port, protocol })),
    endpoints: chosenPods(spec).map((endpoint) => endpointOf(lab, spec, endpoint, family)),
  }));
}

export const endpointPorts = (spec: EndpointsSpec): NonNullable<EndpointsSpec['ports']> =>
  spec.ports ?? [{ port: 8080 }];

export const chosenPods = (spec: EndpointsSpec): EndpointsSpec['pods'] =>
  spec.pods.filter(({ pod }) => !spec.except?.includes(pod));

function endpointOf(lab: Lab, spec: EndpointsSpec, endpoint: EndpointsSpec['pods'][number], family: Family) {
  const { pod, terminating = false, zoneHints, nodeHints } = endpoint;
  const host = lab.hostOf(pod);
  const ready = endpoint.ready ?? !(terminating || spec.unready?.includes(pod));
  const hints = {
    ...(zoneHints && { forZones: zoneHints.map((name) => ({ name })) }),
    ...(nodeHints && { forNodes: nodeHints.map((name) => ({ name })) }),
  };
  return {
    addresses: [lab.place(pod).addresses[family]],
    conditions: { ready, serving: endpoint.serving ?? ready, terminating },
    nodeName: endpoint.node ?? host.name,
    zone: endpoint.zone ?? host.zone,
    ...(Object.keys(hints).length > 0 && { hints }),
  };
}
