import type { Cidr, Ip } from './address.ts';
import type { Family, NodeName, Protocol, ServiceName } from './keys.ts';

/**
 * Kubernetes objects projected to the fields that decide what a node's kernel must hold. Everything else is dropped when an
 * object arrives, so that 100,000 EndpointSlices cost what is used of them.
 *
 * Values here are valid: addresses canonical, ports in range, protocols known. What is not valid is refused at the
 * source (project.ts), with the object's name and place.
 */
export type ClusterObject =
  | { readonly kind: 'Service'; readonly service: Service }
  | { readonly kind: 'EndpointSlice'; readonly slice: EndpointSlice }
  | { readonly kind: 'Node'; readonly node: Node }
  | { readonly kind: 'ServiceExport'; readonly export: ServiceExport }
  | { readonly kind: 'ServiceImport'; readonly import: ServiceImport };

export interface Service {
  readonly name: ServiceName;
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';
  /** Empty when none is asked for yet (to be allocated) and for headless Services; `headless` tells them apart. */
  readonly clusterIps: readonly Ip[];
  readonly headless: boolean;
  /** Families asked for with spec.ipFamilies; empty: the default of the allocator. */
  readonly ipFamilies: readonly Family[];
  readonly ipFamilyPolicy: 'SingleStack' | 'PreferDualStack' | 'RequireDualStack';
  readonly externalIps: readonly Ip[];
  /** Ingress addresses whose ipMode is unset or VIP (KEP-1860). */
  readonly loadBalancerIps: readonly Ip[];
  readonly ports: readonly ServicePort[];
  /** allocateLoadBalancerNodePorts: false leaves a LoadBalancer Service without the node ports it does not name (P8). */
  readonly allocateNodePorts: boolean;
  readonly internalTrafficPolicy: 'Cluster' | 'Local';
  readonly externalTrafficPolicy: 'Cluster' | 'Local';
  /** Seconds; 0: no affinity. */
  readonly affinityTimeoutSeconds: number;
  readonly sourceRanges: readonly Cidr[];
  readonly healthCheckNodePort: number;
  readonly trafficDistribution: 'PreferSameZone' | 'PreferSameNode' | null;
  /** Label service.kubernetes.io/service-proxy-name is set: somebody else serves it (P41). */
  readonly foreignProxy: boolean;
  /** Of an import that asks for locality: while this cluster has a ready endpoint of a port and family, the others' are not used. */
  readonly preferredCluster?: string;
  readonly meta: ObjectMeta;
}

export interface ServicePort {
  /** Empty only where the Service has one port. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** 0: none. */
  readonly nodePort: number;
}

export interface EndpointSlice {
  /** "NAMESPACE/NAME" of the slice itself. */
  readonly name: string;
  /** From the label kubernetes.io/service-name; null: of no Service. */
  readonly service: ServiceName | null;
  readonly family: Family;
  readonly ports: readonly SlicePort[];
  readonly endpoints: readonly SliceEndpoint[];
  /** Label service.kubernetes.io/headless: not for a proxy (P42). */
  readonly headless: boolean;
  /** Of a slice that stands for endpoints of an import: the cluster that they are in. */
  readonly cluster?: string;
  readonly meta: ObjectMeta;
}

export interface SlicePort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

export interface SliceEndpoint {
  /** The first address; the API defines the others as equivalent and deprecates them. */
  readonly ip: Ip;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly node: NodeName | null;
  readonly zone: string | null;
  readonly zoneHints: readonly string[];
  readonly nodeHints: readonly NodeName[];
  /** Name of the Pod behind it, of an endpoint that is neither ready nor on its way out: a readiness gate may be all that it lacks. */
  readonly pod?: string;
  /** Not ready as its slice says, and taken for ready: all that its Pod lacks is our gate (sources/kubernetes/gate-table.ts). */
  readonly gated?: true;
}

export interface Node {
  readonly name: NodeName;
  /** Label topology.kubernetes.io/zone. */
  readonly zone: string | null;
  readonly addresses: readonly Ip[];
  readonly podCidrs: readonly Cidr[];
  /** Taint ToBeDeletedByClusterAutoscaler, or a deletion timestamp (P48). */
  readonly leaving: boolean;
  readonly meta: ObjectMeta;
}

/** multicluster.x-k8s.io (KEP-1645): the Service of the same name is exported to the other clusters. */
export interface ServiceExport {
  readonly name: ServiceName;
  /** As some controller wrote them. */
  readonly conditions: readonly ExportCondition[];
  readonly meta: ObjectMeta;
}

export interface ExportCondition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

/** What a Service that some cluster exports is reached by in all clusters. */
export interface ServiceImport {
  readonly name: ServiceName;
  readonly ips: readonly Ip[];
  /** A controller of ours wrote it. */
  readonly managed: boolean;
  /** Everything else that we write into it, as one text: two that say the same are equal. */
  readonly shape: string;
  readonly meta: ObjectMeta;
}

export interface ObjectMeta {
  /** Milliseconds since 1970, from metadata.creationTimestamp; null where the source does not say. The older object keeps a contested address. */
  readonly createdAtMs: number | null;
  /** As the source gives it, for people: resourceVersion, mod_revision, or FILE:LINE. */
  readonly revision: string;
  /** Microseconds since 1970 of the change itself, where the source says (last-change-trigger-time, mtime); otherwise null. */
  readonly changedAtUs: number | null;
  /** Annotation tracing.k8s.io/traceparent, if it is one. */
  readonly traceparent: string | null;
  /** There is one, and it is not of the W3C form. */
  readonly hasBadTraceparent?: true;
}
