import { familyOf, type Ip } from '@octoplane/model/address.ts';
import type { Family, ServicePortKey } from '@octoplane/model/keys.ts';
import type { ServicePortSpec, TrafficPolicy } from '@octoplane/model/rule-set.ts';

export const allFamilies: readonly Family[] = ['IPv4', 'IPv6'];

export type FrontendKind = 'clusterIP' | 'externalIP' | 'loadBalancerIP' | 'nodePort';

/** One address, or the node port on one address of the node: a virtual service each. */
export interface Frontend {
  readonly family: Family;
  readonly kind: FrontendKind;
  readonly ip: Ip;
  readonly port: number;
  readonly policy: TrafficPolicy;
}

/** Where this node's frontends can be. */
export interface Places {
  readonly families: readonly Family[];
  /** Of the node, where node ports answer; ascending. */
  readonly nodeAddresses: readonly Ip[];
}

/**
 * An address that is listed twice counts once, as what it is first in the order below. A node port belongs to the
 * families of the cluster IPs, as in kube-proxy; without any, to both.
 */
export function* frontendsOf(spec: ServicePortSpec, port: number, places: Places): Generator<Frontend> {
  const { clusterIps, loadBalancerIps, externalIps, internalPolicy, externalPolicy, nodePort } = spec;
  const here = (ip: Ip) => places.families.includes(familyOf(ip));
  for (const ip of clusterIps)
    if (here(ip)) yield { family: familyOf(ip), kind: 'clusterIP', ip, port, policy: internalPolicy };
  for (const ip of loadBalancerIps) {
    if (!here(ip) || clusterIps.includes(ip)) continue;
    yield { family: familyOf(ip), kind: 'loadBalancerIP', ip, port, policy: externalPolicy };
  }
  for (const ip of externalIps) {
    if (!here(ip) || clusterIps.includes(ip) || loadBalancerIps.includes(ip)) continue;
    yield { family: familyOf(ip), kind: 'externalIP', ip, port, policy: externalPolicy };
  }
  if (nodePort === 0) return;
  for (const ip of places.nodeAddresses) {
    const family = familyOf(ip);
    if (!here(ip) || (clusterIps.length > 0 && !clusterIps.some((other) => familyOf(other) === family))) continue;
    yield { family, kind: 'nodePort', ip, port: nodePort, policy: externalPolicy };
  }
}

/** External frontends of the Local policy use the cluster's endpoints too: clients in the cluster may go anywhere (P6). */
export const usesCluster = ({ policy, kind }: Pick<Frontend, 'policy' | 'kind'>): boolean =>
  policy === 'Cluster' || kind !== 'clusterIP';

export const usesLocal = ({ policy }: Pick<Frontend, 'policy'>): boolean => policy === 'Local';

/** External, with the Local policy: clients in the cluster are told from others by a mark. */
export const isSplit = ({ policy, kind }: Pick<Frontend, 'policy' | 'kind'>): boolean =>
  policy === 'Local' && kind !== 'clusterIP';

/**
 * What an operator reads beside a frontend in `ipset list`, and what `dump` reads back: "default/web:80/TCP loadBalancerIP Local".
 * Nothing is here that shows in what the kernel does: the kernel itself is asked for that.
 */
export interface FrontendNote {
  readonly key: ServicePortKey;
  readonly kind: FrontendKind;
  readonly policy: TrafficPolicy;
}

export const noteText = ({ key, kind, policy }: FrontendNote): string => `${key} ${kind} ${policy}`;

const noteForm = /^(\S+) (clusterIP|externalIP|loadBalancerIP|nodePort) (Cluster|Local)$/;

export function parseNote(text: string): FrontendNote | null {
  const match = noteForm.exec(text);
  if (match === null) return null;
  const [, key = '', kind, policy] = match;
  return { key: key as ServicePortKey, kind: kind as FrontendKind, policy: policy as TrafficPolicy };
}
