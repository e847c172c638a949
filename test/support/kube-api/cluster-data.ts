import {
  type Manifest,
  nodeNameOf,
  syntheticEndpoint,
  syntheticNode,
  syntheticService,
  zoneNameOf,
} from '../synthetic.ts';

export interface ClusterSize {
  readonly services: number;
  readonly slicesPerService: number;
  readonly endpointsPerSlice: number;
  readonly nodes: number;
}

export const sliceKeyOf = (service: number, slice: number): string => `svc-${service}-${slice}`;

/** Services, EndpointSlices and Nodes as a cluster's own controllers write them, with all that a proxy does not need. */
export function* clusterServices(size: ClusterSize): Generator<Manifest> {
  for (let i = 0; i < size.services; i++) {
    const manifest = syntheticService(i, { services: size.services, endpoints: 0 });
    yield {
      ...manifest,
      metadata: { name: `svc-${i}`, namespace: 'default', managedFields: managed('kubectl', 'spec') },
    };
  }
}

export function* clusterSlices(size: ClusterSize): Generator<Manifest> {
  for (let i = 0; i < size.services; i++)
    for (let j = 0; j < size.slicesPerService; j++) yield clusterSlice(i, j, size, 0);
}

/** `round`: the first endpoint is ready in every other one. */
export function clusterSlice(i: number, j: number, size: ClusterSize, round: number): Manifest {
  const endpoints = size.slicesPerService * size.endpointsPerSlice;
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: sliceKeyOf(i, j),
      generateName: `svc-${i}-`,
      namespace: 'default',
      generation: round + 1,
      labels: {
        'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
        'kubernetes.io/service-name': `svc-${i}`,
      },
      annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': '2026-11-25T12:00:00Z' },
      ownerReferences: [
        {
          apiVersion: 'v1',
          kind: 'Service',
          name: `svc-${i}`,
          uid: uidOf(i),
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
      managedFields: managed('kube-controller-manager', 'endpoints'),
    },
    addressType: 'IPv4',
    endpoints: Array.from({ length: size.endpointsPerSlice }, (_, k) => {
      const at = j * size.endpointsPerSlice + k;
      const endpoint = syntheticEndpoint(i, at, 'IPv4', { services: size.services, endpoints, nodes: size.nodes });
      const isReady = k > 0 || round % 2 === 0;
      return {
        ...endpoint,
        conditions: { ready: isReady, serving: isReady, terminating: false },
        targetRef: { kind: 'Pod', name: `svc-${i}-7c9d5b6f4-${at}`, namespace: 'default', uid: uidOf(at) },
      };
    }),
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
  };
}

/** A Node has a long status, of which almost nothing concerns a proxy. */
export function* clusterNodes(size: ClusterSize): Generator<Manifest> {
  for (let n = 0; n < size.nodes; n++) {
    const zone = zoneNameOf(n, 3) ?? '';
    const { status } = syntheticNode(n, { services: 0, endpoints: 0 }) as { readonly status: object };
    yield {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: {
        name: nodeNameOf(n),
        labels: { 'topology.kubernetes.io/zone': zone, 'kubernetes.io/hostname': nodeNameOf(n) },
        managedFields: managed('kubelet', 'status'),
      },
      spec: { podCIDRs: [`10.${128 + (n >> 8)}.${n & 255}.0/24`] },
      status: {
        ...status,
        images: Array.from({ length: 40 }, (_, i) => ({
          names: [`registry.example.com/team-${i}/application@sha256:${uidOf(i).replaceAll('-', '').repeat(2)}`],
          sizeBytes: 123_456_789,
        })),
      },
    };
  }
}

const uidOf = (i: number): string => `0f0f0f0f-1111-2222-3333-${String(i).padStart(12, '0')}`;

const managed = (manager: string, field: string): readonly object[] => [
  {
    manager,
    operation: 'Update',
    apiVersion: 'v1',
    time: '2026-11-25T12:00:00Z',
    fieldsType: 'FieldsV1',
    fieldsV1: {
      'f:metadata': { 'f:annotations': { '.': {} }, 'f:labels': { '.': {}, 'f:kubernetes.io/service-name': {} } },
      [`f:${field}`]: {},
    },
  },
];
