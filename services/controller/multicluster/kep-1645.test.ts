import { type NodeName, nodeName, serviceName } from '@octoplane/model/keys.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { synced } from '../../../test/support/churn.ts';
import type { SourceEvent } from '../sources/source.ts';
import type { ClusterSet } from './cluster-set.ts';
import { clusterSet, exported, gone, names, service, slice, started } from './testing/clusters.ts';
import { judge, type ModelCluster, type ModelService } from './testing/model.ts';

const serviceNames = ['a', 'b'];
const pick = <T>(...values: readonly T[]) => fc.constantFrom(...values);
const cluster = fc.integer({ min: 0, max: 2 });
const name = pick(...serviceNames);
const portSets = [
  ['http:80'],
  ['http:81'],
  ['web:80'],
  ['http:80', 'https:443'],
  ['https:443'],
  ['https:80', 'http:443'],
];
const modelService: fc.Arbitrary<ModelService> = fc.record({
  kind: pick<ModelService['kind']>('ClusterIP', 'ClusterIP', 'ClusterIP', 'Headless', 'ExternalName'),
  ports: pick(...portSets),
  affinity: pick(0, 0, 100, 200),
  local: pick(false, false, true),
});
const second = fc.option(fc.integer({ min: 1, max: 3 }), { freq: 5 });
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ t: pick('service' as const), cluster, name, service: fc.option(modelService, { freq: 5 }) }),
  },
  { weight: 4, arbitrary: fc.record({ t: pick('export' as const), cluster, name, second }) },
  {
    weight: 4,
    arbitrary: fc.record({ t: pick('pods' as const), cluster, name, count: fc.integer({ min: 0, max: 3 }) }),
  },
  { weight: 1, arbitrary: fc.record({ t: pick('lapse' as const), cluster, lapsed: fc.boolean() }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const newModel = (): ModelCluster[] =>
  names.map(() => ({ services: new Map(), exports: new Map(), pods: new Map(), lapsed: false }));

const portOf = (text: string) => ({ name: text.split(':')[0], port: Number(text.split(':')[1]) });

function podSlice(model: ModelCluster, of: string): SourceEvent {
  const ports = (model.services.get(of)?.ports ?? []).map(portOf);
  return slice(of, model.pods.get(of) ?? [], ports);
}

/** Does a step to the model, and says what a source tells of it. */
function events(each: Step, clusters: readonly ModelCluster[]): readonly SourceEvent[] {
  const model = clusters[each.cluster];
  if (!model) return [];
  switch (each.t) {
    case 'service':
      if (each.service === null) {
        model.services.delete(each.name);
        return [gone('Service', each.name), podSlice(model, each.name)];
      }
      model.services.set(each.name, each.service);
      return [service(each.name, specOf(each.service)), podSlice(model, each.name)];
    case 'export':
      if (each.second === null) {
        model.exports.delete(each.name);
        return [gone('ServiceExport', each.name)];
      }
      model.exports.set(each.name, each.second);
      return [exported(each.name, each.second)];
    case 'pods': {
      const subnet = `10.24${each.cluster}.${serviceNames.indexOf(each.name)}`;
      model.pods.set(
        each.name,
        Array.from({ length: each.count }, (_, i) => `${subnet}.${i + 1}`),
      );
      return [podSlice(model, each.name)];
    }
    case 'lapse':
      model.lapsed = each.lapsed;
      return [each.lapsed ? { t: 'lapsed', observedAtUs: 1 } : synced(2)];
  }
}

function specOf({ kind, ports, affinity, local }: ModelService): object {
  return {
    ports: ports.map(portOf),
    ...(kind === 'Headless' ? { clusterIP: 'None' } : {}),
    ...(kind === 'ExternalName' ? { type: kind, externalName: 'example.org' } : {}),
    ...(affinity > 0
      ? { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: affinity } } }
      : {}),
    ...(local ? { trafficDistribution: 'PreferSameZone' } : {}),
  };
}

/** `addresses`: clusterset IPs as they were seen last. */
function expectAsModelled(set: ClusterSet, clusters: readonly ModelCluster[], addresses: Map<string, string>): void {
  for (const each of serviceNames) {
    const verdict = judge(each, clusters);
    const derived = set.imports?.states.get(serviceName('default', each))?.derived;
    const told = names.map((at) => {
      const list = derived?.conditions.get(at);
      return list ? list.map(({ type, status, reason }) => `${type} ${status} ${reason}`).join('; ') : null;
    });
    expect(told).toEqual(verdict.conditions);
    for (const [i, at] of names.entries()) {
      const rules = [...set.ruleSet(nodeName(`n-${at}`))].filter(([key]) =>
        key.startsWith(`default/${each}.clusterset:`),
      );
      const actual = rules.map(
        ([key, { endpoints }]) =>
          [Number(/:(\d+)/.exec(key)?.[1]), new Set(endpoints.map(({ ip }) => ip as string))] as const,
      );
      expect(new Map(actual)).toEqual(verdict.serves[i] ?? new Map());
      for (const [, { spec }] of rules) {
        // Stable for the life of the import, and the same everywhere.
        const [ip = ''] = spec.clusterIps;
        expect(addresses.get(each) ?? ip).toBe(ip);
        addresses.set(each, ip);
      }
    }
    if (verdict.serves.every((serves) => serves === null)) addresses.delete(each);
  }
}

const history = fc.array(step, { maxLength: 40, size: 'max' });

test('any history of exports, conflicts and lapses over three clusters comes to what the model says', async () => {
  await fc.assert(
    fc.asyncProperty(history, async (steps) => {
      const set = await started();
      const clusters = newModel();
      const addresses = new Map<string, string>();
      for (const each of steps) {
        set.apply(names[each.cluster] ?? '', events(each, clusters));
        expectAsModelled(set, clusters, addresses);
      }
    }),
    { numRuns: 150 },
  );
});

test('replicas that saw different histories of the same objects have the same digests', async () => {
  await fc.assert(
    fc.asyncProperty(history, async (steps) => {
      const one = await started();
      const other = await clusterSet();
      const nodes: readonly NodeName[] = names.map((each) => nodeName(`n-${each}`));
      for (const [i, node] of nodes.entries()) other.registerNode(node, null, names[i]);
      const clusters = newModel();
      const byCluster: SourceEvent[][] = names.map(() => []);
      for (const each of steps) {
        const list = events(each, clusters);
        one.apply(names[each.cluster] ?? '', list);
        byCluster[each.cluster]?.push(...list.filter(({ t }) => t !== 'synced' && t !== 'lapsed'));
      }
      for (const i of [2, 0, 1]) other.apply(names[i] ?? '', [...(byCluster[i] ?? []), synced()]);
      for (const [i, model] of clusters.entries())
        if (model.lapsed) other.apply(names[i] ?? '', [{ t: 'lapsed', observedAtUs: 1 }]);
      for (const node of nodes) expect(other.viewDigest(node)).toBe(one.viewDigest(node));
    }),
    { numRuns: 100 },
  );
});
