import { parseCidr } from '@octoplane/model/address.ts';
import { nodeName } from '@octoplane/model/keys.ts';
import type { ObjectId } from '@octoplane/model/project.ts';
import { pino } from 'pino';
import { removal, synced, upsert } from '../../../../test/support/churn.ts';
import { projected } from '../../../../test/support/synthetic.ts';
import type { SourceEvent } from '../../sources/source.ts';
import { assembleClusters } from '../assemble.ts';
import type { ClusterSet } from '../cluster-set.ts';

export const names = ['east', 'west', 'north'] as const;
const cidrs = (...texts: string[]) => texts.map(parseCidr).filter((cidr) => cidr !== null);

export async function clusterSet(
  clusters: readonly string[] = names,
  recorded = false,
  clustersetCidrs = cidrs('10.112.0.0/16'),
): Promise<ClusterSet> {
  const { clusterSet: set } = await assembleClusters(
    {
      sources: clusters.map((name) => ({ name, kind: 'file', target: '/' })),
      serviceCidrs: cidrs('10.96.0.0/16'),
      clustersetCidrs,
      stateDir: null,
    },
    { logger: pino({ level: 'silent' }), recorded, onImports: () => undefined },
  );
  return set;
}

/** With a node in each, named n-CLUSTER. */
export async function started(recorded = false): Promise<ClusterSet> {
  const set = await clusterSet(names, recorded);
  for (const name of names) set.registerNode(nodeName(`n-${name}`), null, name);
  for (const name of names) set.apply(name, [synced()]);
  return set;
}

export const service = (name: string, spec: object = {}): SourceEvent =>
  upsert(
    projected({ apiVersion: 'v1', kind: 'Service', metadata: { name }, spec: { ports: [{ port: 80 }], ...spec } }),
  );

export const slice = (
  name: string,
  ips: readonly string[],
  ports: readonly object[] = [{ port: 8080 }],
  node?: string,
): SourceEvent =>
  upsert(
    projected({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports,
      endpoints: ips.map((ip) => ({ addresses: [ip], ...(node === undefined ? {} : { nodeName: node }) })),
    }),
  );

const multicluster = 'multicluster.x-k8s.io/v1alpha1';
export const at = (second: number): string => new Date(1_700_000_000_000 + second * 1000).toISOString();
export const exported = (name: string, second = 1): SourceEvent =>
  upsert(
    projected({ apiVersion: multicluster, kind: 'ServiceExport', metadata: { name, creationTimestamp: at(second) } }),
  );
export const recordedImport = (name: string, ip: string, second = 1): SourceEvent =>
  upsert(
    projected({
      apiVersion: multicluster,
      kind: 'ServiceImport',
      metadata: { name, creationTimestamp: at(second) },
      spec: { type: 'ClusterSetIP', ips: [ip], ports: [] },
    }),
  );
export const nodeObject = (name: string): SourceEvent =>
  upsert(projected({ apiVersion: 'v1', kind: 'Node', metadata: { name } }));
export const gone = (kind: ObjectId['kind'], name: string): SourceEvent => removal({ kind, name: `default/${name}` });

/** Service ports of a node, and who is behind them. */
export function view(set: ClusterSet, node: string): Readonly<Record<string, readonly string[]>> {
  const rules = [...set.ruleSet(nodeName(node))].map(
    ([key, { endpoints }]) => [key as string, endpoints.map(({ ip }) => ip)] as const,
  );
  return Object.fromEntries(rules);
}
export const vip = (set: ClusterSet, node: string, key: string): string | undefined =>
  [...set.ruleSet(nodeName(node))].find(([each]) => each === key)?.[1].spec.clusterIps[0];
