/**
 * KEP-1645 as it can be read, for three clusters and one namespace, worked out from nothing each time. It shares no code with what it judges.
 */
export interface ModelService {
  readonly kind: 'ClusterIP' | 'Headless' | 'ExternalName';
  /** "http:80". All TCP. */
  readonly ports: readonly string[];
  readonly affinity: number;
  readonly local: boolean;
}

export interface ModelCluster {
  readonly services: Map<string, ModelService>;
  /** Creation of the export by name. */
  readonly exports: Map<string, number>;
  /** Pod addresses by name of the Service; each serves every port of it. */
  readonly pods: Map<string, readonly string[]>;
  lapsed: boolean;
}

export interface ModelVerdict {
  /** Per cluster: port to the addresses behind the clusterset IP there. Null: no clusterset IP. */
  readonly serves: readonly (ReadonlyMap<number, ReadonlySet<string>> | null)[];
  /** Per cluster: null without an export, otherwise the words of its conditions. */
  readonly conditions: readonly (string | null)[];
}

export function judge(name: string, clusters: readonly ModelCluster[]): ModelVerdict {
  const exporters = clusters.map((cluster, i) => ({
    cluster,
    i,
    at: cluster.exports.get(name),
    service: cluster.services.get(name),
  }));
  const good = exporters
    .filter(({ at, service }) => at !== undefined && service !== undefined && service.kind !== 'ExternalName')
    .sort((a, b) => (a.at ?? 0) - (b.at ?? 0) || a.i - b.i);
  const eldest = good[0]?.service;
  const reasons = new Set<string>();
  const owner = new Map<string, string>();
  const usable = new Map<number, Set<string>>();
  for (const { i, service } of good) {
    if (!service || !eldest) continue;
    if (service.kind !== eldest.kind) {
      reasons.add('TypeConflict');
      continue;
    }
    if (service.affinity !== eldest.affinity)
      reasons.add(
        service.affinity > 0 && eldest.affinity > 0 ? 'SessionAffinityConfigConflict' : 'SessionAffinityConflict',
      );
    if (service.local !== eldest.local) reasons.add('TrafficDistributionConflict');
    const agreed = new Set<string>();
    for (const port of service.ports) {
      const [word = '', number = ''] = port.split(':');
      const taken = [owner.get(`name ${word}`), owner.get(`number ${number}`)];
      if (taken.every((other) => other === undefined || other === port) && taken[0] === taken[1]) {
        owner.set(`name ${word}`, port);
        owner.set(`number ${number}`, port);
        agreed.add(port);
      } else reasons.add('PortConflict');
    }
    usable.set(i, agreed);
  }
  const conflict = reasons.size > 0 ? `Conflict True ${[...reasons].sort().join(',')}` : 'Conflict False NoConflicts';
  return {
    serves: clusters.map((_, here) => {
      if (eldest?.kind !== 'ClusterIP') return null;
      const ports = new Map<number, ReadonlySet<string>>();
      for (const [key, port] of owner) {
        if (!key.startsWith('name ')) continue;
        const behind = (i: number): readonly string[] =>
          usable.get(i)?.has(port) && clusters[i]?.lapsed === false ? (clusters[i].pods.get(name) ?? []) : [];
        const all = clusters.flatMap((_each, i) => behind(i));
        const near = eldest.local ? behind(here) : [];
        ports.set(Number(port.split(':')[1]), new Set(near.length > 0 ? near : all));
      }
      return ports;
    }),
    conditions: exporters.map(({ at, service }) => {
      if (at === undefined) return null;
      if (service === undefined) return 'Valid False NoService';
      if (service.kind === 'ExternalName') return 'Valid False InvalidServiceType';
      return `Valid True Valid; ${conflict}`;
    }),
  };
}
