import { type Cidr, cidrContains, familyOf, formatCidr, ipToBytes, parseCidr } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import {
  type Endpoint,
  type Entry,
  endpointFlags,
  familyBit,
  type ServicePortSpec,
} from '@octoplane/model/rule-set.ts';
import { families, frontendsOf, listsUsed } from './frontends.ts';

/**
 * What the tables keep of an entry: no health check port, no draining endpoints, no endpoint of a family without a frontend, of
 * the flags those that a frontend asks for, of the source ranges those that are not within another.
 */
export function visibleEntry(entry: Entry): Entry | null {
  const spec = visibleSpec(entry.spec);
  if (spec === null) return null;
  const used = listsUsed(entry.spec);
  const endpoints: Endpoint[] = [];
  let changed = spec !== entry.spec;
  for (const endpoint of entry.endpoints) {
    const lists = used[familyOf(endpoint.ip)];
    const mask = (lists.cluster ? endpointFlags.cluster : 0) | (lists.local ? endpointFlags.local : 0);
    const flags = (endpoint.flags & endpointFlags.draining) !== 0 ? 0 : endpoint.flags & mask;
    if (flags !== endpoint.flags) changed = true;
    if (flags === endpoint.flags) endpoints.push(endpoint);
    else if (flags !== 0) endpoints.push({ ...endpoint, flags });
  }
  return changed ? { key: entry.key, spec, endpoints } : entry;
}

function visibleSpec(spec: ServicePortSpec): ServicePortSpec | null {
  let usable = 0;
  let external = false;
  let any = false;
  let loadBalancer = 0;
  for (const frontend of frontendsOf(spec)) {
    any = true;
    usable |= familyBit(frontend.family);
    if (frontend.kind !== 'clusterIP') external = true;
    if (frontend.kind === 'loadBalancerIP') loadBalancer |= familyBit(frontend.family);
  }
  if (!any) return null;
  const visible: ServicePortSpec = {
    ...spec,
    loadBalancerIps: without(spec.loadBalancerIps, spec.clusterIps),
    externalIps: without(spec.externalIps, [...spec.clusterIps, ...spec.loadBalancerIps]),
    internalPolicy: spec.clusterIps.length > 0 ? spec.internalPolicy : 'Cluster',
    externalPolicy: external ? spec.externalPolicy : 'Cluster',
    sourceRanges: outermostRanges(spec.sourceRanges, loadBalancer),
    healthCheckNodePort: 0,
    usableFamilies: spec.usableFamilies & usable,
  };
  return differ(spec, visible) ? visible : spec;
}

function without(ips: readonly string[], others: readonly string[]): readonly string[] {
  return ips.some((ip) => others.includes(ip)) ? ips.filter((ip) => !others.includes(ip)) : ips;
}

const differ = (a: ServicePortSpec, b: ServicePortSpec): boolean =>
  a.loadBalancerIps !== b.loadBalancerIps ||
  a.externalIps !== b.externalIps ||
  a.internalPolicy !== b.internalPolicy ||
  a.externalPolicy !== b.externalPolicy ||
  a.sourceRanges !== b.sourceRanges ||
  a.healthCheckNodePort !== b.healthCheckNodePort ||
  a.usableFamilies !== b.usableFamilies;

/** Interval sets refuse overlaps, and a range within another admits nobody new. */
function outermostRanges(ranges: readonly string[], familyMask: number): readonly string[] {
  if (ranges.length === 0) return ranges;
  const cidrs: Cidr[] = [];
  for (const text of ranges) {
    const cidr = parseCidr(text);
    if (cidr && (familyMask & familyBit(familyOf(cidr.ip))) !== 0) cidrs.push(cidr);
  }
  // Ranges nest or lie apart, so in order of their first addresses, the wider first, only the last kept can contain the next.
  const ordered = cidrs.map((cidr) => ({ cidr, first: Buffer.from(ipToBytes(cidr.ip)).toString('hex') }));
  ordered.sort((a, b) => (a.first === b.first ? a.cidr.length - b.cidr.length : a.first < b.first ? -1 : 1));
  const kept: Cidr[] = [];
  const last: Partial<Record<Family, Cidr>> = {};
  for (const { cidr } of ordered) {
    const family = familyOf(cidr.ip);
    const outer = last[family];
    if (outer && outer.length <= cidr.length && cidrContains(outer, cidr.ip)) continue;
    last[family] = cidr;
    kept.push(cidr);
  }
  const outermost = kept.map(formatCidr).sort();
  return outermost.length === ranges.length && outermost.every((text, i) => text === ranges[i]) ? ranges : outermost;
}

/** Families with ranges of their own; a family without any admits everybody, as in kube-proxy. */
export const rangedFamilies = (spec: ServicePortSpec): number =>
  families.reduce(
    (mask, family) => (spec.sourceRanges.some((range) => familyOf(range) === family) ? mask | familyBit(family) : mask),
    0,
  );
