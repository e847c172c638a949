import { familyOf, type Ip } from '@octoplane/model/address.ts';
import type { Family, ServicePortKey } from '@octoplane/model/keys.ts';
import { familyBit, type ServicePortSpec, type TrafficPolicy } from '@octoplane/model/rule-set.ts';

export const families: readonly Family[] = ['IPv4', 'IPv6'];

export type FrontendKind = 'clusterIP' | 'loadBalancerIP' | 'externalIP' | 'nodePort';

/** One address, or the node port, in one family. */
export interface Frontend {
  readonly kind: FrontendKind;
  /** null for the node port. */
  readonly ip: Ip | null;
  readonly policy: TrafficPolicy;
}

/**
 * An address that is listed twice counts once, as what it is first in the order below. A node port belongs to the
 * families of the cluster IPs, as in kube-proxy; without any, to both.
 */
export function frontendsOf(spec: ServicePortSpec, family: Family): readonly Frontend[] {
  const { clusterIps, loadBalancerIps, externalIps, internalPolicy, externalPolicy } = spec;
  const frontends: Frontend[] = [];
  const seen = new Set<Ip>();
  const add = (kind: FrontendKind, ips: readonly Ip[], policy: TrafficPolicy): void => {
    for (const ip of ips) {
      if (familyOf(ip) !== family || seen.has(ip)) continue;
      seen.add(ip);
      frontends.push({ kind, ip, policy });
    }
  };
  add('clusterIP', clusterIps, internalPolicy);
  add('loadBalancerIP', loadBalancerIps, externalPolicy);
  add('externalIP', externalIps, externalPolicy);
  if (spec.nodePort !== 0 && (clusterIps.length === 0 || clusterIps.some((ip) => familyOf(ip) === family)))
    frontends.push({ kind: 'nodePort', ip: null, policy: externalPolicy });
  return frontends;
}

/** External frontends of the Local policy choose from both: clients in the cluster may go anywhere (P6). */
export const usesCluster = ({ kind, policy }: Frontend): boolean => policy === 'Cluster' || kind !== 'clusterIP';

export const usesLocal = ({ policy }: Frontend): boolean => policy === 'Local';

/**
 * The comment of the rule that catches a frontend: what an operator reads in iptables-save, and what `dump` reads of the
 * header: "default/web:80/TCP clusterIP Cluster usable=IPv4 affinity=10800".
 */
export interface Note {
  readonly key: ServicePortKey;
  readonly kind: FrontendKind;
  readonly policy: TrafficPolicy;
  readonly usableFamilies: number;
  readonly affinityTimeoutSeconds: number;
}

export function noteText(note: Note): string {
  const usable = families.filter((family) => (note.usableFamilies & familyBit(family)) !== 0).join() || 'none';
  const affinity = note.affinityTimeoutSeconds === 0 ? '' : ` affinity=${note.affinityTimeoutSeconds}`;
  return `${note.key} ${note.kind} ${note.policy} usable=${usable}${affinity}`;
}

const noteForm =
  /^(\S+) (clusterIP|loadBalancerIP|externalIP|nodePort) (Cluster|Local) usable=(none|IPv4|IPv6|IPv4,IPv6)(?: affinity=([1-9][0-9]*))?$/;
const usableNumbers: Readonly<Record<string, number>> = { none: 0, IPv4: 1, IPv6: 2, 'IPv4,IPv6': 3 };

export function parseNote(text: string): Note | null {
  const match = noteForm.exec(text);
  if (match === null) return null;
  const [, key = '', kind, policy, usable = '', affinity = '0'] = match;
  return {
    key: key as ServicePortKey,
    kind: kind as FrontendKind,
    policy: policy as TrafficPolicy,
    usableFamilies: usableNumbers[usable] ?? 0,
    affinityTimeoutSeconds: Number(affinity),
  };
}
