import { type Cidr, familyOf, type Ip } from './address.ts';
import { describe, type Fields, type Findings, type Path } from './findings.ts';
import { type Family, serviceName } from './keys.ts';
import type { ClusterObject, Service } from './objects.ts';
import type { ObjectId } from './project.ts';
import { readCidr, readReachableIp } from './project-address.ts';
import { headlessLabel, type Origin, readMetadata } from './project-meta.ts';
import { readServicePorts } from './project-service-ports.ts';

/** Presence is what counts, as in kube-proxy's own watch; the value names the other proxy. */
const proxyLabel = 'service.kubernetes.io/service-proxy-name';

const specFields = new Set([
  'allocateLoadBalancerNodePorts',
  'clusterIP',
  'clusterIPs',
  'externalIPs',
  'externalName',
  'externalTrafficPolicy',
  'healthCheckNodePort',
  'internalTrafficPolicy',
  'ipFamilies',
  'ipFamilyPolicy',
  'loadBalancerClass',
  'loadBalancerIP',
  'loadBalancerSourceRanges',
  'ports',
  'publishNotReadyAddresses',
  'selector',
  'sessionAffinity',
  'sessionAffinityConfig',
  'trafficDistribution',
  'type',
]);

const at: Path = ['spec'];
const policies = ['Cluster', 'Local'] as const;
const families = ['IPv4', 'IPv6'] as const;

export function projectService(
  manifest: Fields,
  origin: Origin,
  findings: Findings,
): { id: ObjectId; object: ClusterObject } {
  const metadata = readMetadata(manifest, origin, findings, { namespaced: true, name: 'label' });
  const spec = findings.fields(manifest, 'spec', []);
  findings.warnUnknown(spec, specFields, at);
  const name = serviceName(metadata.namespace, metadata.name);
  const types = ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'] as const;
  const type = findings.choice(spec, 'type', at, types, 'ClusterIP');
  const { clusterIps, none } = readClusterIps(spec, findings);
  if (none && type !== 'ClusterIP' && type !== 'ExternalName')
    findings.refuse(
      [...at, 'clusterIP'],
      `a ${type} Service cannot be headless`,
      'leave clusterIP out, or use type ClusterIP',
    );
  const headless = none || Object.hasOwn(metadata.labels, headlessLabel);
  const external = findings.choice(spec, 'externalTrafficPolicy', at, policies, 'Cluster');
  const service: Service = {
    name,
    type,
    clusterIps: type === 'ExternalName' ? [] : clusterIps,
    headless,
    ipFamilies: readFamilies(spec, clusterIps, findings),
    ipFamilyPolicy: findings.choice(
      spec,
      'ipFamilyPolicy',
      at,
      ['SingleStack', 'PreferDualStack', 'RequireDualStack'],
      clusterIps.length === 2 ? 'RequireDualStack' : 'SingleStack',
    ),
    externalIps: readExternalIps(spec, findings),
    loadBalancerIps: type === 'LoadBalancer' ? readLoadBalancerIps(manifest, findings) : [],
    ports: readServicePorts(spec, { type, portless: headless || type === 'ExternalName' }, findings),
    allocateNodePorts: findings.flag(spec, 'allocateLoadBalancerNodePorts', at) ?? true,
    internalTrafficPolicy: findings.choice(spec, 'internalTrafficPolicy', at, policies, 'Cluster'),
    externalTrafficPolicy: external,
    affinityTimeoutSeconds: readAffinity(spec, findings),
    sourceRanges: readSourceRanges(spec, findings),
    healthCheckNodePort: readHealthCheckNodePort(spec, type === 'LoadBalancer' && external === 'Local', findings),
    trafficDistribution: readTrafficDistribution(spec, findings),
    foreignProxy: Object.hasOwn(metadata.labels, proxyLabel),
    meta: metadata.meta,
  };
  return { id: { kind: 'Service', name: metadata.name === '' ? '' : name }, object: { kind: 'Service', service } };
}

/** clusterIPs wins over the older clusterIP, which must be its first member. */
function readClusterIps(spec: Fields, findings: Findings): { clusterIps: readonly Ip[]; none: boolean } {
  const first = findings.text(spec, 'clusterIP', at);
  const several = findings.list(spec, 'clusterIPs', at);
  if (several.length > 0 && first !== '' && several[0] !== first)
    findings.refuse([...at, 'clusterIPs', 0], `${describe(several[0])} is not clusterIP, ${first}`, 'make them equal');
  const values = several.length > 0 ? several : first === '' ? [] : [first];
  if (values[0] === 'None') return { clusterIps: [], none: true };
  const ips = values.flatMap((value, i) => {
    const ip = readReachableIp(
      value,
      several.length > 0 ? [...at, 'clusterIPs', i] : [...at, 'clusterIP'],
      findings,
      null,
    );
    return ip === null ? [] : [ip];
  });
  const [a, b] = ips;
  if (ips.length > 2 || (a !== undefined && b !== undefined && familyOf(a) === familyOf(b)))
    findings.refuse(
      [...at, 'clusterIPs'],
      `${ips.join(', ')} are more than one per family`,
      'give one IPv4 and one IPv6 address at most',
    );
  return { clusterIps: ips, none: false };
}

function readFamilies(spec: Fields, clusterIps: readonly Ip[], findings: Findings): readonly Family[] {
  const named: Family[] = [];
  findings.list(spec, 'ipFamilies', at).forEach((value, i) => {
    const family = families.find((word) => word === value);
    if (family === undefined || named.includes(family))
      findings.refuse([...at, 'ipFamilies', i], `${describe(value)} is unknown, or named twice`, 'use IPv4 and IPv6');
    else named.push(family);
  });
  clusterIps.forEach((ip, i) => {
    const family = named[i];
    if (family !== undefined && familyOf(ip) !== family)
      findings.refuse(
        [...at, 'ipFamilies', i],
        `${family} does not fit the cluster IP ${ip}`,
        'list families as the addresses are',
      );
  });
  return named.length > 0 ? named : clusterIps.map(familyOf);
}

function readExternalIps(spec: Fields, findings: Findings): readonly Ip[] {
  return findings.list(spec, 'externalIPs', at).flatMap((value, i) => {
    const ip = readReachableIp(value, [...at, 'externalIPs', i], findings, null);
    return ip === null ? [] : [ip];
  });
}

/** Host names are for DNS and not for a proxy; an address whose ipMode is Proxy is left to the load balancer (KEP-1860). */
function readLoadBalancerIps(manifest: Fields, findings: Findings): readonly Ip[] {
  const status = findings.fields(manifest, 'status', []);
  const path: Path = ['status', 'loadBalancer'];
  const loadBalancer = findings.fields(status, 'loadBalancer', ['status']);
  return findings.list(loadBalancer, 'ingress', path).flatMap((value, i) => {
    const itemPath: Path = [...path, 'ingress', i];
    const item = findings.item(value, itemPath);
    const mode = findings.choice(item, 'ipMode', itemPath, ['VIP', 'Proxy'], 'VIP');
    if ((item['ip'] ?? '') === '') return [];
    const ip = readReachableIp(item['ip'], [...itemPath, 'ip'], findings, null);
    return ip === null || mode === 'Proxy' ? [] : [ip];
  });
}

function readAffinity(spec: Fields, findings: Findings): number {
  const affinity = findings.choice(spec, 'sessionAffinity', at, ['None', 'ClientIP'], 'None');
  const config = findings.fields(spec, 'sessionAffinityConfig', at);
  const path: Path = [...at, 'sessionAffinityConfig'];
  const clientIp = findings.fields(config, 'clientIP', path);
  const seconds = findings.number(clientIp, 'timeoutSeconds', [...path, 'clientIP'], 1, 86_400, 'a timeout');
  return affinity === 'None' ? 0 : (seconds ?? 10_800);
}

function readSourceRanges(spec: Fields, findings: Findings): readonly Cidr[] {
  return findings.list(spec, 'loadBalancerSourceRanges', at).flatMap((value, i) => {
    const cidr = readCidr(value, [...at, 'loadBalancerSourceRanges', i], findings);
    return cidr === null ? [] : [cidr];
  });
}

function readHealthCheckNodePort(spec: Fields, used: boolean, findings: Findings): number {
  const port = findings.number(spec, 'healthCheckNodePort', at, 0, 65_535, 'a port') ?? 0;
  return used ? port : 0;
}

/** Hints carry the choice; the field itself is kept for people. PreferClose is the older name of PreferSameZone (KEP-3015). */
function readTrafficDistribution(spec: Fields, findings: Findings): Service['trafficDistribution'] {
  const value = findings.text(spec, 'trafficDistribution', at);
  if (value === 'PreferSameNode') return 'PreferSameNode';
  if (value === 'PreferSameZone' || value === 'PreferClose') return 'PreferSameZone';
  if (value !== '')
    findings.warn(
      [...at, 'trafficDistribution'],
      `${describe(value)} is unknown and ignored`,
      'use PreferSameZone or PreferSameNode',
    );
  return null;
}
