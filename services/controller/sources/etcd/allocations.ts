import type { ServiceName } from '@octoplane/model/keys.ts';
import type { Service } from '@octoplane/model/objects.ts';
import type { Allocation } from '../../allocate/allocator.ts';
import { type Claim, clusterIpClaim, ipOfClaim, nodePortClaim } from '../../state/claims.ts';
import { allocationsRoot } from './layout.ts';

/**
 * Who holds which cluster IP and node port. A key each, with the Service's name as its value, written in the same transaction as
 * the Service, and only if it does not exist yet: so two writers never get the same one.
 *
 *   /octoplane/v1/allocations/clusterips/IP
 *   /octoplane/v1/allocations/nodeports/PROTOCOL/PORT
 */
export function keyOfClaim(claim: Claim): string | null {
  const ip = ipOfClaim(claim);
  if (ip !== null) return `${allocationsRoot}clusterips/${ip}`;
  const [, port, protocol] = /^node port (\d+)\/(\w+)$/.exec(claim) ?? [];
  return port === undefined ? null : `${allocationsRoot}nodeports/${protocol}/${port}`;
}

/** What a Service holds for itself alone, by key. Addresses that may be shared port by port are not among it. */
export function heldBy(service: Service | null): ReadonlyMap<string, Claim> {
  const held = new Map<string, Claim>();
  const hold = (claim: Claim): void => {
    const key = keyOfClaim(claim);
    if (key !== null) held.set(key, claim);
  };
  if (service === null || service.headless || service.type === 'ExternalName') return held;
  for (const ip of service.clusterIps) hold(clusterIpClaim(ip));
  for (const { nodePort, protocol } of service.ports) if (nodePort !== 0) hold(nodePortClaim(nodePort, protocol));
  if (service.healthCheckNodePort !== 0) hold(nodePortClaim(service.healthCheckNodePort, 'TCP'));
  return held;
}

/** What a Service has, as what it may keep when it is written again without naming it. */
export function allocationOf(service: Service | null): ReadonlyMap<ServiceName, Allocation> {
  if (service === null) return new Map();
  const nodePorts = service.ports.flatMap(({ port, protocol, nodePort }) =>
    nodePort === 0 ? [] : [[`${port}/${protocol}`, nodePort] as const],
  );
  const { clusterIps, healthCheckNodePort } = service;
  return new Map([[service.name, { clusterIps, nodePorts: Object.fromEntries(nodePorts), healthCheckNodePort }]]);
}
