/** Explanations, in words. */
import type { Service, SliceEndpoint } from '@octoplane/model/objects.ts';
import { endpointFlags, type ServicePortSpec } from '@octoplane/model/rule-set.ts';
import type { EndpointExplanation, FamilyExplanation, ModeWhy, PortExplanation, WhyNot } from '../compute/explain.ts';
import type { NoEntry } from '../compute/prepare.ts';
import type { Vantage } from '../compute/topology.ts';

type EntryExplanation = PortExplanation & { readonly t: 'entry' };

const { cluster, local, terminating } = endpointFlags;

export const noEntryWords: Readonly<Record<NoEntry, string>> = {
  ExternalName: 'an ExternalName Service is a name in DNS, and has no address to serve',
  headless: 'a headless Service has no address: clients find its endpoints in DNS',
  'foreign proxy': 'the label service.kubernetes.io/service-proxy-name leaves it to another proxy',
  'no frontend': 'it has neither an address nor a node port',
};

export function conditionWords({ ready, serving, terminating: ends, gated }: SliceEndpoint): string {
  if (gated) return 'ready but for its gate';
  if (ends) return serving ? 'terminating, serving' : 'terminating';
  return ready ? 'ready' : 'not ready';
}

export function frontendWords({ spec, port }: EntryExplanation): readonly string[] {
  const addresses = [...spec.clusterIps, ...spec.externalIps, ...spec.loadBalancerIps];
  const words = addresses.map((ip) => (ip.includes(':') ? `[${ip}]:${port.port}` : `${ip}:${port.port}`));
  return spec.nodePort === 0 ? words : [...words, `node port ${spec.nodePort}`];
}

/** A sentence for each choice that leads traffic. */
export function choiceWords(
  { spec, families, endpoints }: EntryExplanation,
  service: Service,
  vantage: Vantage,
): string[] {
  const words: string[] = [];
  if (spec.internalPolicy === 'Local')
    words.push('internalTrafficPolicy Local: cluster addresses lead to endpoints on the same node');
  if (spec.externalPolicy === 'Local')
    words.push('externalTrafficPolicy Local: traffic from outside stays on the node that it arrives at');
  for (const family of families) {
    const prefix = families.length > 1 ? `${family.family}: ` : '';
    words.push(`${prefix}${reachWords(family, vantage)}`);
    if (!endpoints.some(({ slice, flags }) => slice.family === family.family && (flags & (cluster | local)) !== 0))
      words.push(`${prefix}${nobodyWords(spec, family)}`);
  }
  if (service.trafficDistribution !== null && families.every(({ modeWhy }) => modeWhy === 'no hints'))
    words.push(`trafficDistribution ${service.trafficDistribution} asks for hints, which the slices do not have`);
  if (spec.affinityTimeoutSeconds > 0) words.push(`a client keeps its endpoint for ${spec.affinityTimeoutSeconds} s`);
  if (spec.sourceRanges.length > 0) words.push(`load balancer addresses serve ${spec.sourceRanges.join(', ')} only`);
  return words;
}

function reachWords({ modeWhy, unhinted, ready }: FamilyExplanation, { zone, node }: Vantage): string {
  const words: Readonly<Record<ModeWhy, string>> = {
    'no frontend uses it': 'no frontend leads to endpoints on other nodes',
    'no hints': 'endpoints anywhere: they have no hints',
    'incomplete hints': `endpoints anywhere: ${unhinted} of ${ready} ready ones lack a zone hint, and hints count only when all have one`,
    'node without zone': 'endpoints anywhere: they have zone hints, and the zone of the node is not known',
    'zone without endpoints': `endpoints anywhere: none is hinted for ${zone ?? '-'}`,
    'zone hints': `endpoints hinted for ${zone ?? '-'}, because every ready one has a hint`,
    'node hints': `endpoints hinted for ${node ?? '-'}, because every ready one has a hint`,
  };
  return words[modeWhy];
}

/** usable_families of rules.proto: what becomes of a connection that nobody is chosen for. */
const nobodyWords = ({ usableFamilies }: ServicePortSpec, { family }: FamilyExplanation): string =>
  (usableFamilies & (family === 'IPv4' ? 1 : 2)) === 0
    ? 'no endpoint serves anywhere: connections are rejected'
    : 'no endpoint is chosen here, and some serve elsewhere: connections are dropped';

/** Why the endpoint is chosen, or why not; for each policy where they differ. */
export function whyWords(explanation: EndpointExplanation, vantage: Vantage): string {
  const { clusterWhy, localWhy, flags } = explanation;
  const isChosen = (flags & (cluster | local)) !== 0;
  const last = (flags & terminating) !== 0 ? 'it ends, and no other one is ready' : '';
  if (clusterWhy === localWhy)
    return clusterWhy === null ? last || 'ready' : whyNotWords(clusterWhy, explanation, vantage);
  if (localWhy === 'policy not used')
    return clusterWhy === null ? last || 'ready' : whyNotWords(clusterWhy, explanation, vantage);
  if (clusterWhy === 'policy not used')
    return localWhy === null ? last || 'ready, and on this node' : whyNotWords(localWhy, explanation, vantage);
  const forCluster = clusterWhy === null ? 'chosen' : whyNotWords(clusterWhy, explanation, vantage);
  const forLocal = localWhy === null ? 'chosen' : whyNotWords(localWhy, explanation, vantage);
  if (!isChosen && forCluster === forLocal) return forCluster;
  return `Cluster: ${forCluster}; Local: ${forLocal}${last === '' ? '' : `; ${last}`}`;
}

function whyNotWords(why: WhyNot, { slice, endpoint }: EndpointExplanation, { node }: Vantage): string {
  switch (why) {
    case 'headless slice':
      return 'its slice has the label service.kubernetes.io/headless';
    case 'other family':
      return `the Service has no ${slice.family} address`;
    case 'no such port':
      return 'its slice has no port of this name and protocol';
    case 'not ready':
      return 'not ready';
    case 'ended':
      return 'terminating, and does not serve any more';
    case 'other cluster':
      return `in cluster ${slice.cluster}; the node's own has a ready endpoint, and the Service asks for locality`;
    case 'double':
      return 'another slice has it too, and counts';
    case 'policy not used':
      return 'no frontend leads to it';
    case 'hinted for other zones':
      return `hinted for ${endpoint.zoneHints.join(', ')}`;
    case 'hinted for other nodes':
      return `hinted for ${endpoint.nodeHints.join(', ')}`;
    case 'on another node':
      return node === null
        ? `on ${endpoint.node ?? 'a node that is not named'} only`
        : `on ${endpoint.node ?? 'a node that is not named'}`;
    case 'draining':
      return 'terminating: keeps its connections, gets no new ones';
  }
}
