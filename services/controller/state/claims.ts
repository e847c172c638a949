import type { Service } from '@octoplane/model/objects.ts';

/**
 * What a Service occupies, and what no other Service may have at the same time. A claim is its own description: it reads as
 * "cluster IP 10.96.0.10" in messages, and equal claims are equal texts.
 *
 *   cluster IP X              belongs to one Service whole, whatever its ports
 *   address X port P/PROTO    load balancer and external addresses may be shared as long as the ports differ
 *   node port N/PROTO         health check node ports are among them, as TCP
 */
export type Claim = string;

export const clusterIpClaim = (ip: string): Claim => `cluster IP ${ip}`;
export const addressClaim = (ip: string, port: number, protocol: string): Claim =>
  `address ${ip} port ${port}/${protocol}`;
export const nodePortClaim = (port: number, protocol: string): Claim => `node port ${port}/${protocol}`;

/** Null for what is not a cluster IP. */
export const ipOfClaim = (claim: Claim): string | null => /^cluster IP (.+)$/.exec(claim)?.[1] ?? null;

/** Of a Service whose addresses and ports are complete. */
export function claimsOf(service: Service): readonly Claim[] {
  if (service.type === 'ExternalName' || service.headless) return [];
  const claims = new Set<Claim>();
  for (const ip of service.clusterIps) claims.add(clusterIpClaim(ip));
  for (const { port, protocol, nodePort } of service.ports) {
    for (const list of [service.clusterIps, service.externalIps, service.loadBalancerIps])
      for (const ip of list) claims.add(addressClaim(ip, port, protocol));
    if (nodePort !== 0) claims.add(nodePortClaim(nodePort, protocol));
  }
  if (service.healthCheckNodePort !== 0) claims.add(nodePortClaim(service.healthCheckNodePort, 'TCP'));
  return [...claims];
}
