import { familyOf, type Ip } from '@octoplane/model/address.ts';
import { type Family, parseServicePortKey, type ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, familyBit, type ServicePortSpec, type TrafficPolicy } from '@octoplane/model/rule-set.ts';

export const families: readonly Family[] = ['IPv4', 'IPv6'];

export type FrontendKind = 'clusterIP' | 'externalIP' | 'loadBalancerIP' | 'nodePort';

/** One address, or the node port, in one family. */
export interface Frontend {
  readonly family: Family;
  readonly kind: FrontendKind;
  /** null for the node port. */
  readonly ip: Ip | null;
  readonly policy: TrafficPolicy;
}

/** Which lists of endpoints a family's frontends choose from. */
export interface ListsUsed {
  readonly cluster: boolean;
  readonly local: boolean;
}

/**
 * An address that is listed twice counts once, as what it is first in the order below. A node port belongs to the
 * families of the cluster IPs, as in kube-proxy; without any, to both.
 */
export function* frontendsOf(spec: ServicePortSpec): Generator<Frontend> {
  const { clusterIps, loadBalancerIps, externalIps } = spec;
  for (const ip of clusterIps) yield { family: familyOf(ip), kind: 'clusterIP', ip, policy: spec.internalPolicy };
  for (const ip of loadBalancerIps) {
    if (!clusterIps.includes(ip))
      yield { family: familyOf(ip), kind: 'loadBalancerIP', ip, policy: spec.externalPolicy };
  }
  for (const ip of externalIps) {
    if (clusterIps.includes(ip) || loadBalancerIps.includes(ip)) continue;
    yield { family: familyOf(ip), kind: 'externalIP', ip, policy: spec.externalPolicy };
  }
  if (spec.nodePort === 0) return;
  for (const family of families) {
    if (clusterIps.length > 0 && !clusterIps.some((ip) => familyOf(ip) === family)) continue;
    yield { family, kind: 'nodePort', ip: null, policy: spec.externalPolicy };
  }
}

/** "10.96.0.1 port 80/TCP", "IPv4 node port 30080/TCP": what two entries cannot both have. */
export function* frontendNames(entry: Entry): Generator<string> {
  const [, portAndProtocol = ''] = entry.key.split(':');
  const [port = '', protocol = ''] = portAndProtocol.split('/');
  for (const { ip, family } of frontendsOf(entry.spec)) {
    yield ip === null ? `${family} node port ${entry.spec.nodePort}/${protocol}` : `${ip} port ${port}/${protocol}`;
  }
}

/** External frontends of the Local policy use both lists: clients in the cluster may go anywhere (P6). */
export const usesCluster = (frontend: Frontend): boolean =>
  frontend.policy === 'Cluster' || frontend.kind !== 'clusterIP';

export const usesLocal = (frontend: Frontend): boolean => frontend.policy === 'Local';

export function listsUsed(spec: ServicePortSpec): Record<Family, ListsUsed> {
  const used = { IPv4: { cluster: false, local: false }, IPv6: { cluster: false, local: false } };
  for (const frontend of frontendsOf(spec)) {
    const lists = used[frontend.family];
    lists.cluster ||= usesCluster(frontend);
    lists.local ||= usesLocal(frontend);
  }
  return used;
}

/**
 * What an operator reads beside a frontend in `nft list ruleset`, and what `dump` reads back of the header:
 * "default/web:80/TCP loadBalancerIP Local usable=IPv4".
 */
export interface FrontendNote {
  readonly key: ServicePortKey;
  readonly kind: FrontendKind;
  readonly policy: TrafficPolicy;
  readonly usableFamilies: number;
}

export function noteText(note: FrontendNote): string {
  const usable = families.filter((family) => (note.usableFamilies & familyBit(family)) !== 0);
  return `${note.key} ${note.kind} ${note.policy} usable=${usable.join(',') || 'none'}`;
}

const noteForm =
  /^(\S+) (clusterIP|externalIP|loadBalancerIP|nodePort) (Cluster|Local) usable=(none|IPv4|IPv6|IPv4,IPv6)$/;
const usableNumbers: Readonly<Record<string, number>> = { none: 0, IPv4: 1, IPv6: 2, 'IPv4,IPv6': 3 };

export function parseNote(text: string): FrontendNote | null {
  const match = noteForm.exec(text);
  if (match === null) return null;
  const [, key = '', kind, policy, usable = ''] = match;
  if (parseServicePortKey(key) === null) return null;
  return {
    key: key as ServicePortKey,
    kind: kind as FrontendKind,
    policy: policy as TrafficPolicy,
    usableFamilies: usableNumbers[usable] ?? 0,
  };
}
