import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';

/** A plain ClusterIP service port `i` of the address plan with endpoints numbered as given, on 10.244.0.0/16. */
export function entry(i: number, endpoints: readonly number[] = [1], nodePort = 0): Entry {
  return {
    key: serviceKey(i),
    spec: {
      clusterIps: [`10.96.${i >> 8}.${i & 255}`],
      externalIps: [],
      loadBalancerIps: [],
      nodePort,
      internalPolicy: 'Cluster',
      externalPolicy: 'Cluster',
      affinityTimeoutSeconds: 0,
      sourceRanges: [],
      healthCheckNodePort: 0,
      usableFamilies: endpoints.length > 0 ? 1 : 0,
    },
    endpoints: [...new Set(endpoints)]
      .map((n) => ({ ip: `10.244.${n >> 8}.${n & 255}`, port: 8080, flags: 1 }))
      .sort((a, b) => (a.ip < b.ip ? -1 : 1)),
  };
}

export const serviceKey = (i: number): ServicePortKey => `default/web-${i}:80/TCP` as ServicePortKey;
