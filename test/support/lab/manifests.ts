import type { Family } from '@octoplane/model/keys.ts';
import type { Lab } from './lab.ts';
import type { Manifest } from './source-dir.ts';

/** A Service in the default namespace. */
export const serviceManifest = (
  name: string,
  spec: Readonly<Record<string, unknown>>,
): Manifest & { spec: unknown } => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default' },
  spec,
});

export interface SliceOptions {
  /** Default IPv4. */
  readonly family?: Family;
  /** Pods that are being deleted and still serve. */
  readonly ending?: readonly string[];
}

/** One slice with these pods, all ready. */
export const sliceManifest = (
  lab: Lab,
  service: string,
  pods: readonly string[],
  ports: readonly { readonly name?: string; readonly port: number; readonly protocol?: string }[],
  { family = 'IPv4', ending = [] }: SliceOptions = {},
): Manifest & { readonly endpoints: unknown } & Readonly<Record<string, unknown>> => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: `${service}-${family.toLowerCase()}`, namespace: 'default', ...labelsOf(service) },
  addressType: family,
  ports: ports.map(({ name = '', port, protocol = 'TCP' }) => ({ name, port, protocol })),
  endpoints: pods.map((pod) => ({
    addresses: [lab.place(pod).addresses[family]],
    conditions: { ready: !ending.includes(pod), serving: true, terminating: ending.includes(pod) },
    nodeName: lab.hostOf(pod).name,
    zone: lab.hostOf(pod).zone,
  })),
});

const labelsOf = (service: string) => ({ labels: { 'kubernetes.io/service-name': service } });
