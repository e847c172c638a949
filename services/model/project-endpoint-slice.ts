import { describe, type Fields, type Findings, isEmptyList, type Path } from './findings.ts';
import { intern, internList } from './intern.ts';
import { type Family, type NodeName, nodeName, protocols, type ServiceName, serviceName } from './keys.ts';
import type { ClusterObject, SliceEndpoint, SlicePort } from './objects.ts';
import type { ObjectId } from './project.ts';
import { readReachableIp } from './project-address.ts';
import { headlessLabel, isLabel, isSubdomain, type Origin, readMetadata } from './project-meta.ts';

const serviceLabel = 'kubernetes.io/service-name';

const topLevel = new Set(['apiVersion', 'kind', 'metadata', 'addressType', 'endpoints', 'ports']);
const endpointFields = new Set([
  'addresses',
  'conditions',
  'deprecatedTopology',
  'hints',
  'hostname',
  'nodeName',
  'targetRef',
  'zone',
]);

/** discovery.k8s.io/v1 EndpointSlice: at most 1,000 endpoints, 100 ports and 100 addresses an endpoint. */
const limits = { endpoints: 1000, ports: 20_000, addresses: 100, hints: 8 };

const none: readonly never[] = [];

export function projectEndpointSlice(
  manifest: Fields,
  origin: Origin,
  findings: Findings,
): { id: ObjectId; object: ClusterObject } {
  const metadata = readMetadata(manifest, origin, findings, { namespaced: true, name: 'subdomain' });
  const name = metadata.name === '' ? '' : `${metadata.namespace}/${metadata.name}`;
  findings.warnUnknown(manifest, topLevel, []);
  const family = addressType(manifest, findings);
  return {
    id: { kind: 'EndpointSlice', name },
    object: {
      kind: 'EndpointSlice',
      slice: {
        name,
        service: serviceOf(metadata.namespace, metadata.labels, findings),
        family: family ?? 'IPv4',
        ports: readPorts(manifest, findings),
        // Without a family every address would be reported, which would bury the one thing to put right.
        endpoints: family === null ? none : readEndpoints(manifest, family, findings),
        headless: Object.hasOwn(metadata.labels, headlessLabel),
        meta: metadata.meta,
      },
    },
  };
}

function addressType(manifest: Fields, findings: Findings): Family | null {
  const value = manifest['addressType'];
  if (value === 'IPv4' || value === 'IPv6') return value;
  if (value === 'FQDN')
    findings.refuse(['addressType'], 'FQDN endpoints have no address to send packets to', 'use IPv4 or IPv6');
  else findings.refuse(['addressType'], `${describe(value)} is not an address type`, 'use IPv4 or IPv6');
  return null;
}

function serviceOf(namespace: string, labels: Fields, findings: Findings): ServiceName | null {
  const name = findings.text(labels, serviceLabel, ['metadata', 'labels']);
  if (name === '') return null;
  if (isLabel(name)) return intern(serviceName(namespace, name)) as ServiceName;
  findings.refuse(
    ['metadata', 'labels', serviceLabel],
    `${describe(name)} is not a Service's name`,
    'name the Service',
  );
  return null;
}

function readPorts(manifest: Fields, findings: Findings): readonly SlicePort[] {
  const ports: SlicePort[] = [];
  const names = new Set<string>();
  const values = findings.list(manifest, 'ports', []);
  if (values.length > limits.ports)
    findings.refuse(['ports'], `there are ${values.length} ports`, `keep to ${limits.ports}`);
  values.forEach((value, i) => {
    const path: Path = ['ports', i];
    const item = findings.item(value, path);
    const name = findings.text(item, 'name', path);
    const protocol = findings.choice(item, 'protocol', path, protocols, 'TCP');
    if (names.has(name))
      findings.refuse([...path, 'name'], `${describe(name)} is named twice`, 'give every port a name of its own');
    names.add(name);
    if ((item['port'] ?? null) === null) {
      // The API means "all ports" by this; kube-proxy skips such a port as well.
      findings.warn(
        [...path, 'port'],
        'the port has no number and is ignored',
        'write the port that the endpoints listen on',
      );
      return;
    }
    const port = findings.number(item, 'port', path, 1, 65_535, 'a port');
    if (port !== null) ports.push({ name, protocol, port });
  });
  return internList(JSON.stringify(ports), ports);
}

function readEndpoints(manifest: Fields, family: Family, findings: Findings): readonly SliceEndpoint[] {
  const endpoints: SliceEndpoint[] = [];
  const values = findings.list(manifest, 'endpoints', []);
  if (values.length > limits.endpoints)
    findings.refuse(['endpoints'], `there are ${values.length} endpoints`, `make a slice per ${limits.endpoints}`);
  values.forEach((value, i) => {
    const endpoint = readEndpoint(value, ['endpoints', i], family, findings);
    if (endpoint) endpoints.push(endpoint);
  });
  // Without the room that a list which has grown keeps for more: a third of it, a million times.
  return endpoints.slice();
}

function readEndpoint(value: unknown, path: Path, family: Family, findings: Findings): SliceEndpoint | null {
  const item = findings.item(value, path);
  findings.warnUnknown(item, endpointFields, path);
  const addresses = findings.list(item, 'addresses', path);
  if (isEmptyList(item['addresses']) || addresses.length > limits.addresses) {
    findings.refuse(
      [...path, 'addresses'],
      `the endpoint has ${addresses.length} addresses`,
      `give it 1 to ${limits.addresses}`,
    );
    return null;
  }
  const ips = addresses.map((address, i) => readReachableIp(address, [...path, 'addresses', i], findings, family));
  const ip = ips[0] ?? null;
  if (ip === null) return null;
  const conditionsPath: Path = [...path, 'conditions'];
  const conditions = findings.fields(item, 'conditions', path);
  const hints = readHints(item, path, findings);
  // Unset means ready, and serving as it is ready (comments of the v1 API).
  const ready = findings.flag(conditions, 'ready', conditionsPath) ?? true;
  const terminating = findings.flag(conditions, 'terminating', conditionsPath) ?? false;
  const pod = ready || terminating ? '' : podOf(item, path, findings);
  return {
    ip,
    ready,
    serving: findings.flag(conditions, 'serving', conditionsPath) ?? ready,
    terminating,
    node: readNode(item, path, findings),
    zone: intern(findings.text(item, 'zone', path)) || null,
    zoneHints: hints.zoneHints,
    nodeHints: hints.nodeHints,
    ...(pod === '' ? {} : { pod }),
  };
}

/** Empty: it is of something else. */
function podOf(item: Fields, path: Path, findings: Findings): string {
  const target = findings.fields(item, 'targetRef', path);
  return target['kind'] === 'Pod' ? findings.text(target, 'name', [...path, 'targetRef']) : '';
}

function readNode(item: Fields, path: Path, findings: Findings): NodeName | null {
  const name = findings.text(item, 'nodeName', path);
  if (name === '') return null;
  if (isSubdomain(name)) return nodeName(intern(name));
  findings.refuse([...path, 'nodeName'], `${describe(name)} is not a node's name`, 'name the node');
  return null;
}

function readHints(
  item: Fields,
  path: Path,
  findings: Findings,
): { zoneHints: readonly string[]; nodeHints: readonly NodeName[] } {
  if ((item['hints'] ?? null) === null) return { zoneHints: none, nodeHints: none };
  const hints = findings.fields(item, 'hints', path);
  const names = (key: string): readonly string[] => {
    const values = findings.list(hints, key, [...path, 'hints']);
    if (values.length > limits.hints)
      findings.refuse([...path, 'hints', key], `there are ${values.length} hints`, `keep to ${limits.hints}`);
    const texts = values.map((value, i) =>
      findings.text(findings.item(value, [...path, 'hints', key, i]), 'name', path),
    );
    return internList(JSON.stringify(texts), texts);
  };
  return { zoneHints: names('forZones'), nodeHints: names('forNodes') as readonly NodeName[] };
}
