import type { Manifest } from './store.ts';

/** Objects as a cluster has them; names in namespace "default". */
export const service = (name: string, port = 80, more: { readonly labels?: object; readonly spec?: object } = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default', labels: more.labels ?? {} },
  spec: { type: 'ClusterIP', clusterIP: '10.96.0.10', ports: [{ port, protocol: 'TCP' }], ...more.spec },
});

export const slice = (name: string, ...addresses: readonly string[]): Manifest => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: `${name}-1`, namespace: 'default', labels: { 'kubernetes.io/service-name': name } },
  addressType: 'IPv4',
  ports: [{ name: '', port: 8080, protocol: 'TCP' }],
  endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
});

export const node = (name: string, zone = 'zone-a'): Manifest => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, labels: { 'topology.kubernetes.io/zone': zone } },
  status: { addresses: [{ type: 'InternalIP', address: '172.18.0.2' }] },
});

/** The namespace whose UID names the cluster. */
export const kubeSystem = (uid: string): Manifest => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name: 'kube-system', uid },
});
