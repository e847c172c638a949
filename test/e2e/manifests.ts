/** The Service of the demonstration, as Kubernetes would have it. */
import type { Ip } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import type { Manifest } from '../support/lab/source-dir.ts';

export const vips: Readonly<Record<Family, Ip>> = { IPv4: '10.96.0.10', IPv6: 'fd00:96::10' };
export const port = 80;
export const nodePort = 30_080;
export const podPort = 8_080;

export const webService = (): Manifest => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'default' },
  ...{
    spec: {
      type: 'NodePort',
      clusterIP: vips.IPv4,
      clusterIPs: [vips.IPv4, vips.IPv6],
      ipFamilies: ['IPv4', 'IPv6'],
      ipFamilyPolicy: 'RequireDualStack',
      ports: [{ name: 'http', port, protocol: 'TCP', nodePort }],
    },
  },
});

export interface WebPod {
  readonly ip: Ip;
  readonly node: string;
  readonly zone: string;
}

export const webSlice = (family: Family, pods: readonly WebPod[]): Manifest => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: {
    name: `web-${family.toLowerCase()}`,
    namespace: 'default',
    ...{ labels: { 'kubernetes.io/service-name': 'web' } },
  },
  ...{
    addressType: family,
    ports: [{ name: 'http', port: podPort, protocol: 'TCP' }],
    endpoints: pods.map(({ ip, node, zone }) => ({
      addresses: [ip],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: node,
      zone,
    })),
  },
});
