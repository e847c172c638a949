import type { Cidr, Ip } from './address.ts';
import { type Fields, type Findings, isFields, type Path } from './findings.ts';
import { nodeName } from './keys.ts';
import type { ClusterObject } from './objects.ts';
import type { ObjectId } from './project.ts';
import { readCidr, readIp } from './project-address.ts';
import { type Origin, readMetadata } from './project-meta.ts';

const zoneLabel = 'topology.kubernetes.io/zone';
/** KEP-3836: the cluster autoscaler is about to delete the node. */
const leavingTaint = 'ToBeDeletedByClusterAutoscaler';

export function projectNode(
  manifest: Fields,
  origin: Origin,
  findings: Findings,
): { id: ObjectId; object: ClusterObject } {
  const { name, labels, deleting, meta } = readMetadata(manifest, origin, findings, {
    namespaced: false,
    name: 'subdomain',
  });
  const spec = findings.fields(manifest, 'spec', []);
  return {
    id: { kind: 'Node', name },
    object: {
      kind: 'Node',
      node: {
        name: nodeName(name),
        zone: findings.text(labels, zoneLabel, ['metadata', 'labels']) || null,
        addresses: addresses(manifest, findings),
        podCidrs: podCidrs(spec, findings),
        leaving:
          deleting ||
          findings.list(spec, 'taints', ['spec']).some((taint) => isFields(taint) && taint['key'] === leavingTaint),
        meta,
      },
    },
  };
}

/** Internal and external addresses; host names are not used. */
function addresses(manifest: Fields, findings: Findings): readonly Ip[] {
  const status = findings.fields(manifest, 'status', []);
  const ips: Ip[] = [];
  findings.list(status, 'addresses', ['status']).forEach((value, i) => {
    const path: Path = ['status', 'addresses', i];
    const item = findings.item(value, path);
    const type = item['type'];
    if (type !== 'InternalIP' && type !== 'ExternalIP') return;
    const ip = readIp(item['address'], [...path, 'address'], findings, null);
    if (ip !== null) ips.push(ip);
  });
  return ips;
}

function podCidrs(spec: Fields, findings: Findings): readonly Cidr[] {
  const several = findings.list(spec, 'podCIDRs', ['spec']);
  const values = several.length > 0 ? several : (spec['podCIDR'] ?? '') === '' ? [] : [spec['podCIDR']];
  return values.flatMap((value, i) => {
    const cidr = readCidr(value, several.length > 0 ? ['spec', 'podCIDRs', i] : ['spec', 'podCIDR'], findings);
    return cidr ? [cidr] : [];
  });
}
