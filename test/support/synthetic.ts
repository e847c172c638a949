import { formatProblem } from '@octoplane/model/findings.ts';
import type { ClusterObject } from '@octoplane/model/objects.ts';
import { project } from '@octoplane/model/project.ts';

/**
 * Clusters of any size for tests and benchmarks: the same options always give the same manifests.
 *
 * Addresses: Services 10.96.1.0 upwards and fd00:96::100 upwards; endpoints 10.128.0.0/9 and fd00:244::/32, one after
 * another, because 250,000 of them do not fit 10.244.N.0/24 per node.
 */
export interface SyntheticOptions {
  /** Up to 1,000,000. */
  readonly services: number;
  /** Of each Service; more than 100 make several EndpointSlices. */
  readonly endpoints: number;
  /** Default 3. */
  readonly nodes?: number;
  /** Default 3; 0: nodes and endpoints have no zone. */
  readonly zones?: number;
  /** Default false: IPv4 only. */
  readonly dualStack?: boolean;
  /** Fields to lay over the spec of Service i. */
  readonly spec?: (i: number) => Manifest;
  /** Hints for endpoint `at` of the whole cluster, default none. */
  readonly hints?: (at: number, cluster: Required<Pick<SyntheticOptions, 'nodes' | 'zones'>>) => Manifest | null;
}

export type Manifest = Readonly<Record<string, unknown>>;

const slicesOf = 100;

export const serviceNameOf = (i: number): string => `svc-${i}`;
export const nodeNameOf = (n: number): string => `node-${n + 1}`;
export const zoneNameOf = (n: number, zones: number): string | null => (zones === 0 ? null : `zone-${n % zones}`);

export function syntheticNode(n: number, options: SyntheticOptions): Manifest {
  const zone = zoneNameOf(n, options.zones ?? 3);
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: nodeNameOf(n), ...(zone === null ? {} : { labels: { 'topology.kubernetes.io/zone': zone } }) },
    status: { addresses: [{ type: 'InternalIP', address: `172.18.${n >> 8}.${n & 255}` }] },
  };
}

export function syntheticService(i: number, options: SyntheticOptions): Manifest {
  const number = i + 256;
  const v4 = `10.${96 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: serviceNameOf(i), namespace: 'default' },
    spec: {
      clusterIP: v4,
      clusterIPs: options.dualStack ? [v4, `fd00:96::${number.toString(16)}`] : [v4],
      ports: [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 8080 }],
      ...options.spec?.(i),
    },
  };
}

/** EndpointSlices of Service i; `count` endpoints instead of options.endpoints. */
export function syntheticSlices(i: number, options: SyntheticOptions, count: number = options.endpoints): Manifest[] {
  const slices: Manifest[] = [];
  for (const family of options.dualStack ? (['IPv4', 'IPv6'] as const) : (['IPv4'] as const)) {
    for (let first = 0; first === 0 || first < count; first += slicesOf) {
      const length = Math.min(slicesOf, count - first);
      slices.push({
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: {
          name: `${serviceNameOf(i)}-${family.toLowerCase()}-${first / slicesOf}`,
          namespace: 'default',
          labels: { 'kubernetes.io/service-name': serviceNameOf(i) },
        },
        addressType: family,
        ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
        endpoints: Array.from({ length }, (_, k) => syntheticEndpoint(i, first + k, family, options)),
      });
    }
  }
  return slices;
}

/** Endpoint k of Service i. Neighbours are on different nodes, and so in different zones. */
export function syntheticEndpoint(i: number, k: number, family: 'IPv4' | 'IPv6', options: SyntheticOptions): Manifest {
  const at = i * options.endpoints + k;
  const nodes = options.nodes ?? 3;
  const zones = options.zones ?? 3;
  const n = at % nodes;
  const zone = zoneNameOf(n, zones);
  const hints = options.hints?.(at, { nodes, zones }) ?? null;
  return {
    addresses: [
      family === 'IPv4'
        ? `10.${128 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}`
        : `fd00:244:${(at >> 16).toString(16)}::${(at & 0xffff).toString(16)}`,
    ],
    conditions: { ready: true, serving: true, terminating: false },
    nodeName: nodeNameOf(n),
    ...(zone === null ? {} : { zone }),
    ...(hints === null ? {} : { hints }),
  };
}

/** Nodes, then each Service with its EndpointSlices. */
export function* syntheticManifests(options: SyntheticOptions): Generator<Manifest> {
  for (let n = 0; n < (options.nodes ?? 3); n++) yield syntheticNode(n, options);
  for (let i = 0; i < options.services; i++) {
    yield syntheticService(i, options);
    yield* syntheticSlices(i, options);
  }
}

export function* syntheticObjects(options: SyntheticOptions): Generator<ClusterObject> {
  for (const manifest of syntheticManifests(options)) yield projected(manifest);
}

/** For manifests that are known to be good. */
export function projected(manifest: Manifest): ClusterObject {
  const projection = project(manifest, { revision: 'synthetic', changedAtUs: null });
  if (projection.t === 'object') return projection.object;
  throw new Error(projection.t === 'refused' ? projection.problems.map(formatProblem).join('; ') : projection.what);
}
