import type { Family, Protocol, ServiceName } from '@octoplane/model/keys.ts';
import type { EndpointSlice, ExportCondition, Service, ServiceExport } from '@octoplane/model/objects.ts';

/** One cluster's part in an exported Service. */
export interface Exported {
  readonly cluster: string;
  readonly export: ServiceExport;
  /** Null: there is none of this name, or it was refused. */
  readonly service: Service | null;
  readonly slices: readonly EndpointSlice[];
  /** Silent for longer than its lease: it takes part in everything but traffic. */
  readonly lapsed: boolean;
}

export interface ImportPort {
  readonly name: string;
  readonly port: number;
  readonly protocol: Protocol;
}

/** What the exports of one name add up to. */
export interface DerivedImport {
  readonly name: ServiceName;
  readonly type: 'ClusterSetIP' | 'Headless';
  /** Of the oldest export first, then what younger ones add. */
  readonly ports: readonly ImportPort[];
  readonly families: readonly Family[];
  readonly affinityTimeoutSeconds: number;
  readonly internalTrafficPolicy: Service['internalTrafficPolicy'];
  readonly trafficDistribution: Service['trafficDistribution'];
  /** The oldest export. */
  readonly leader: Exported;
  /** Clusters with a valid export, by name. */
  readonly exporters: readonly string[];
  /** Those whose endpoints serve, and which of the ports they have in the meaning of the import. */
  readonly members: readonly { readonly exported: Exported; readonly portNames: ReadonlySet<string> }[];
}

export interface Derived {
  /** Null when nobody exports anything valid: the import goes. */
  readonly import: DerivedImport | null;
  /** For the status of each cluster's export. */
  readonly conditions: ReadonlyMap<string, readonly ExportCondition[]>;
}

/**
 * From the exports of one namespace and name, in the order of the clusters, to the import: KEP-1645. Pure.
 *
 *   1. An export without a Service, or of an ExternalName, is not valid and takes no part.
 *   2. The oldest valid export decides what can be decided once: type, affinity, internal policy, locality, families.
 *   3. Ports are the union. A name, or a number and protocol, that an older export has otherwise stays the older's, and the younger's endpoints
 *      are not used for it.
 *   4. A cluster whose Service is headless where the import is not, or the other way round, is left out, and told so.
 *   5. A conflict is a condition on every valid export. Traffic goes on.
 */
export function deriveImport(name: ServiceName, exports: readonly Exported[]): Derived {
  const conditions = new Map<string, ExportCondition[]>();
  const valid: Valid[] = [];
  for (const exported of exports) {
    const condition = validity(exported);
    conditions.set(exported.cluster, [condition]);
    if (condition.status === 'True' && exported.service) valid.push({ exported, service: exported.service });
  }
  // A stable sort: of equally old ones the first cluster's is the elder.
  valid.sort((a, b) => ageOf(a.exported) - ageOf(b.exported));
  const [leader] = valid;
  if (!leader) return { import: null, conditions };
  const { ports, portNames, clashes } = unionOfPorts(
    valid.filter(({ service }) => service.headless === leader.service.headless),
  );
  const conflicts = [...valid.flatMap((other) => differences(leader, other)), ...clashes];
  for (const { exported } of valid)
    conditions.get(exported.cluster)?.push(conflictCondition(conflicts, leader.exported));
  const { affinityTimeoutSeconds, internalTrafficPolicy, trafficDistribution } = leader.service;
  return {
    import: {
      name,
      type: leader.service.headless ? 'Headless' : 'ClusterSetIP',
      ports,
      families: familiesOf(leader.service),
      affinityTimeoutSeconds,
      internalTrafficPolicy,
      trafficDistribution,
      leader: leader.exported,
      exporters: valid.map(({ exported }) => exported.cluster).sort(),
      members: valid.flatMap(({ exported }) => {
        const names = portNames.get(exported.cluster);
        return names === undefined || exported.lapsed ? [] : [{ exported, portNames: names }];
      }),
    },
    conditions,
  };
}

interface Valid {
  readonly exported: Exported;
  readonly service: Service;
}

interface Conflict {
  readonly reason: string;
  readonly message: string;
}

const ageOf = (exported: Exported): number => exported.export.meta.createdAtMs ?? Number.MAX_SAFE_INTEGER;

function validity({ service, export: { name } }: Exported): ExportCondition {
  const invalid = (reason: string, message: string): ExportCondition => ({
    type: 'Valid',
    status: 'False',
    reason,
    message,
  });
  if (service === null) return invalid('NoService', `there is no Service ${name} that could be exported`);
  if (service.type === 'ExternalName')
    return invalid('InvalidServiceType', 'a Service of type ExternalName has no endpoints and cannot be exported');
  const message = service.headless ? 'exported without a clusterset IP: the Service is headless' : 'exported';
  return { type: 'Valid', status: 'True', reason: 'Valid', message };
}

/** What a younger export has otherwise than the oldest, ports aside. */
function differences(leader: Valid, other: Valid): readonly Conflict[] {
  const [ours, theirs] = [leader.service, other.service];
  const where = `of ${other.exported.cluster}`;
  const conflicts: Conflict[] = [];
  const differ = (reason: string, what: string): void => {
    conflicts.push({ reason, message: `${what} ${where}` });
  };
  if (ours.headless !== theirs.headless) {
    differ('TypeConflict', 'the type');
    return conflicts;
  }
  if (ours.affinityTimeoutSeconds !== theirs.affinityTimeoutSeconds) {
    const kind = ours.affinityTimeoutSeconds > 0 === theirs.affinityTimeoutSeconds > 0 ? 'Config' : '';
    differ(`SessionAffinity${kind}Conflict`, 'the session affinity');
  }
  if (ours.internalTrafficPolicy !== theirs.internalTrafficPolicy)
    differ('InternalTrafficPolicyConflict', 'the internal traffic policy');
  if (ours.trafficDistribution !== theirs.trafficDistribution)
    differ('TrafficDistributionConflict', 'the traffic distribution');
  if (familiesOf(ours).toSorted().join() !== familiesOf(theirs).toSorted().join())
    differ('IPFamilyConflict', 'the address families');
  return conflicts;
}

/** `valid`: oldest first. `portNames`: which ports each cluster has as the import has them. */
function unionOfPorts(valid: readonly Valid[]) {
  const byName = new Map<string, ImportPort>();
  const byNumber = new Map<string, ImportPort>();
  const portNames = new Map<string, ReadonlySet<string>>();
  const clashes: Conflict[] = [];
  for (const { exported, service } of valid) {
    const names = new Set<string>();
    for (const { name, port, protocol } of service.ports) {
      const number = `${port}/${protocol}`;
      const named = byName.get(name);
      const numbered = byNumber.get(number);
      if (named === undefined && numbered === undefined) {
        const added = { name, port, protocol };
        byName.set(name, added);
        byNumber.set(number, added);
      } else if (named !== numbered) {
        const what = name === '' ? number : `${name} ${number}`;
        clashes.push({ reason: 'PortConflict', message: `port ${what} of ${exported.cluster}` });
        continue;
      }
      names.add(name);
    }
    portNames.set(exported.cluster, names);
  }
  return { ports: [...byName.values()], portNames, clashes };
}

function conflictCondition(conflicts: readonly Conflict[], leader: Exported): ExportCondition {
  if (conflicts.length === 0)
    return { type: 'Conflict', status: 'False', reason: 'NoConflicts', message: 'all exports agree' };
  const reasons = [...new Set(conflicts.map(({ reason }) => reason))].sort();
  const differing = conflicts.map(({ message }) => message).join(', ');
  return {
    type: 'Conflict',
    status: 'True',
    reason: reasons.join(','),
    message: `the oldest export, ${leader.cluster}'s, decides against ${differing}`,
  };
}

/** As the Service has them, or as its addresses tell. */
const familiesOf = ({ ipFamilies, clusterIps }: Service): readonly Family[] =>
  clusterIps.length > ipFamilies.length ? clusterIps.map((ip) => (ip.includes(':') ? 'IPv6' : 'IPv4')) : ipFamilies;
