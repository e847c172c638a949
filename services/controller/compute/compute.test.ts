import { parseCidr } from '@octoplane/model/address.ts';
import { digestOf } from '@octoplane/model/digest.ts';
import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import { formatId, idOf } from '@octoplane/model/project.ts';
import { type Entry, entriesEqual, type RuleSet } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nodeNames, type Step, steps, synced, upsert } from '../../../test/support/churn.ts';
import {
  projected,
  type SyntheticOptions,
  syntheticObjects,
  syntheticSlices,
} from '../../../test/support/synthetic.ts';
import { Allocator, needsAllocation } from '../allocate/allocator.ts';
import type { SourceEvent } from '../sources/source.ts';
import { ClusterState } from '../state/cluster-state.ts';
import type { Batch } from './batch.ts';
import { Compute } from './compute.ts';
import { onNode, resolve } from './resolve.ts';

const sources = ['a', 'b'];

interface Brain {
  readonly state: ClusterState;
  readonly compute: Compute;
}

function brain(): Brain {
  const cidrs = ['10.96.0.0/12', 'fd00:96::/108'].map(parseCidr).filter((cidr) => cidr !== null);
  const state = new ClusterState({ sources, allocator: new Allocator({ serviceCidrs: cidrs }) });
  return { state, compute: new Compute(state) };
}

function startedBrain(): Brain {
  const started = brain();
  for (const source of sources) started.compute.apply(source, [synced()]);
  return started;
}

/** Every node's view as the definition has it: each Service resolved for that node, without classes or overlays. */
function naiveView({ state, compute }: Brain, node: NodeName): RuleSet {
  const id = compute.classOf(node);
  const zone = id === '-' ? null : id;
  const view = new Map<ServicePortKey, Entry>();
  for (const [name, service] of state.services)
    for (const entry of resolve(service, state.slicesOf(name), onNode(node, zone))) view.set(entry.key, entry);
  return view;
}

function expectSameRuleSet(actual: RuleSet, expected: RuleSet): void {
  expect(new Map([...actual].sort())).toEqual(new Map([...expected].sort()));
}

/** What a history would do with a batch: a node's own records mask those of its class. */
function follow(mirror: Map<ServicePortKey, Entry>, batch: Batch, compute: Compute, node: NodeName): void {
  const own = new Map((batch.overlays.get(node) ?? []).map((change) => [change.key, change]));
  const ofClass = (batch.classes.get(compute.classOf(node)) ?? []).filter(({ key }) => !own.has(key));
  for (const { key, before, after } of [...ofClass, ...own.values()]) {
    expect(entriesEqual(mirror.get(key) ?? null, before)).toBe(true);
    if (after) mirror.set(key, after);
    else mirror.delete(key);
  }
}

const isOfService = (event: SourceEvent): boolean =>
  (event.t === 'upserted' && event.object.kind !== 'Node') || (event.t === 'removed' && event.id.kind !== 'Node');

class Mirrors {
  readonly #views = new Map<NodeName, Map<ServicePortKey, Entry>>();
  readonly #brain: Brain;

  constructor(started: Brain) {
    this.#brain = started;
    for (const node of nodeNames) this.restart(node);
  }

  restart(node: NodeName): void {
    this.#views.set(node, new Map(this.#brain.compute.ruleSet(node)));
  }

  take(step: Step): void {
    const { compute, state } = this.#brain;
    const known = new Set(nodeNames.filter((node) => state.nodes.has(node)));
    if (step.t === 'register') {
      if (compute.registerNode(step.node, step.zone) !== 'known') this.restart(step.node);
      return;
    }
    if (step.t === 'forget') {
      compute.forgetNode(step.node);
      this.restart(step.node);
      return;
    }
    const batch = compute.apply(step.source, step.events);
    for (const [node, mirror] of this.#views) {
      // A node that nobody knew has no view to follow: it begins with registerNode, or with its Node object.
      if (batch?.moved.includes(node) || known.has(node) !== state.nodes.has(node)) this.restart(node);
      else if (batch) follow(mirror, batch, compute, node);
    }
  }

  follow(batch: Batch | null): void {
    if (batch === null) return;
    for (const [node, mirror] of this.#views) follow(mirror, batch, this.#brain.compute, node);
  }

  check(): void {
    for (const [node, mirror] of this.#views) {
      expectSameRuleSet(this.#brain.compute.ruleSet(node), mirror);
      expect(this.#brain.compute.viewDigest(node)).toBe(digestOf(mirror));
    }
  }
}

describe('under churn', () => {
  test('batches take every node from view to view, views are as defined, and a full recompute agrees', () => {
    fc.assert(
      fc.property(steps(sources), (churn) => {
        const started = startedBrain();
        const mirrors = new Mirrors(started);
        for (const step of churn) {
          mirrors.take(step);
          mirrors.check();
        }
        for (const node of nodeNames) {
          if (!started.state.nodes.has(node)) started.compute.registerNode(node, null);
          expectSameRuleSet(started.compute.ruleSet(node), naiveView(started, node));
        }
        expect(started.compute.disagreements(started.compute.recompute())).toEqual([]);
        expect(started.compute.audit(100)).toBeNull();
      }),
      { numRuns: 250 },
    );
  });

  test('an audit finds what compute was not told, and puts it right for every node', () => {
    fc.assert(
      fc.property(steps(sources), steps(sources), (told, secret) => {
        const started = startedBrain();
        for (const { source, events } of eventsOf(told)) started.compute.apply(source, events);
        for (const node of nodeNames) started.compute.registerNode(node, null);
        const mirrors = new Mirrors(started);
        // Nodes apart: where they are is not the audit's business.
        for (const { source, events } of eventsOf(secret)) started.state.apply(source, events.filter(isOfService));
        // Two rounds over less than ten Services: one may have begun before.
        for (let i = 0; i < 20; i++) mirrors.follow(started.compute.audit(1));
        mirrors.check();
        for (const node of nodeNames) expectSameRuleSet(started.compute.ruleSet(node), naiveView(started, node));
      }),
      { numRuns: 60 },
    );
  });

  test('the order of arrival makes no difference to a second instance', () => {
    fc.assert(
      fc.property(steps(sources), fc.infiniteStream(fc.nat()), (churn, randoms) => {
        const first = brain();
        const second = brain();
        for (const { source, events } of eventsOf(churn)) first.compute.apply(source, events);
        for (const { source, event } of shuffled(survivors(eventsOf(churn)), randoms))
          second.compute.apply(source, [event]);
        for (const { compute } of [first, second]) for (const source of sources) compute.apply(source, [synced()]);
        expectSameViews(first, second);
      }),
      { numRuns: 60 },
    );
  });

  test('an instance that has lived through it agrees with one that starts now, where nothing is to be allocated', () => {
    fc.assert(
      fc.property(steps(sources), fc.infiniteStream(fc.nat()), (churn, randoms) => {
        const old = startedBrain();
        const young = brain();
        const named = eventsOf(churn).map(({ source, events }) => ({ source, events: events.filter(namesAll) }));
        for (const { source, events } of named) old.compute.apply(source, events);
        for (const { source, event } of shuffled(survivors(named), randoms)) young.compute.apply(source, [event]);
        for (const source of sources) young.compute.apply(source, [synced()]);
        expectSameViews(old, young);
        expect(new Set(old.state.rejected().map(({ object }) => object))).toEqual(
          new Set(young.state.rejected().map(({ object }) => object)),
        );
      }),
      { numRuns: 60 },
    );
  });
});

type Round = { readonly source: string; readonly events: readonly SourceEvent[] };

const eventsOf = (churn: readonly Step[]): readonly Round[] =>
  churn.flatMap((step) => (step.t === 'events' ? [{ source: step.source, events: step.events }] : []));

const namesAll = (event: SourceEvent): boolean =>
  event.t !== 'upserted' || event.object.kind !== 'Service' || !needsAllocation(event.object.service);

/** The last word on every object that is still there. */
function survivors(rounds: readonly Round[]): { readonly source: string; readonly event: SourceEvent }[] {
  const last = new Map<string, { readonly source: string; readonly event: SourceEvent }>();
  for (const { source, events } of rounds) {
    for (const event of events) {
      if (event.t === 'upserted') last.set(`${source} ${formatId(idOf(event.object))}`, { source, event });
      if (event.t === 'removed') last.delete(`${source} ${formatId(event.id)}`);
    }
  }
  return [...last.values()];
}

function shuffled<T>(items: readonly T[], randoms: Iterator<number>): readonly T[] {
  const numbered = items.map((item) => ({ item, at: Number(randoms.next().value) }));
  return numbered.sort((a, b) => a.at - b.at).map(({ item }) => item);
}

function expectSameViews(a: Brain, b: Brain): void {
  for (const node of nodeNames) {
    a.compute.registerNode(node, null);
    b.compute.registerNode(node, null);
    expect(a.compute.viewDigest(node)).toBe(b.compute.viewDigest(node));
    expectSameRuleSet(a.compute.ruleSet(node), b.compute.ruleSet(node));
  }
}

describe('a cluster of 200 Services', () => {
  const options: SyntheticOptions = { services: 200, endpoints: 5, nodes: 6, zones: 3 };

  function loaded(overrides: Partial<SyntheticOptions> = {}): Brain {
    const started = brain();
    started.compute.apply('b', [synced()]);
    const objects = Array.from(syntheticObjects({ ...options, ...overrides }), upsert);
    started.compute.apply('a', [...objects, synced()]);
    return started;
  }

  test('shares entries between zones that agree', () => {
    const { compute } = loaded();
    const key = 'default/svc-7:80/TCP' as ServicePortKey;
    const entry = compute.classRuleSet('zone-0').get(key);
    expect(entry?.endpoints).toHaveLength(5);
    expect(compute.classRuleSet('zone-1').get(key)).toBe(entry);
  });

  test('a change names the one entry, and leaves its other endpoints the same objects', () => {
    const { compute } = loaded();
    const [slice] = syntheticSlices(7, options, 4);
    const batch = compute.apply('a', slice ? [upsert(projected(slice)), synced(2)] : []);
    expect([...(batch?.classes.keys() ?? [])].sort()).toEqual(['zone-0', 'zone-1', 'zone-2']);
    const [change, ...others] = batch?.classes.get('zone-0') ?? [];
    expect(others).toEqual([]);
    expect(change?.after?.endpoints).toHaveLength(4);
    for (const endpoint of change?.after?.endpoints ?? []) expect(change?.before?.endpoints).toContain(endpoint);
    expect(batch?.causes.map(({ object }) => object)).toEqual(['EndpointSlice default/svc-7-ipv4-0']);
    expect(batch?.inputs.find(({ source }) => source === 'a')?.revision).toBe(2);
  });

  test('a change that nobody can see makes no batch', () => {
    const { compute } = loaded();
    const [slice] = syntheticSlices(7, options);
    expect(compute.apply('a', slice ? [upsert(projected(slice)), synced(2)] : [])).toBeNull();
  });

  test('a Local-only Service costs nothing where it has no endpoint', () => {
    const { compute } = loaded({ spec: () => ({ internalTrafficPolicy: 'Local' }) });
    for (const entry of compute.classRuleSet('zone-0').values()) expect(entry.endpoints).toEqual([]);
    expect(compute.overlay('node-1' as NodeName).size).toBeGreaterThan(0);
  });

  test('nothing is computed before every source is in sync', () => {
    const { compute } = brain();
    const objects = Array.from(syntheticObjects(options), upsert);
    expect(compute.apply('a', [...objects, synced()])).toBeNull();
    expect(compute.inSync).toBe(false);
    expect(compute.classRuleSet('zone-0').size).toBe(0);
    expect(compute.apply('b', [synced()])).not.toBeNull();
    expect(compute.classRuleSet('zone-0').size).toBe(200);
  });
});

describe('nodes', () => {
  test('the zone of the Node object wins over that of the Hello, and a change of it moves the node', () => {
    const { compute } = startedBrain();
    const name = 'node-1' as NodeName;
    expect(compute.registerNode(name, 'zone-x')).toBe('new');
    expect(compute.registerNode(name, 'zone-x')).toBe('known');
    expect(compute.classOf(name)).toBe('zone-x');
    expect(compute.registerNode(name, 'zone-y')).toBe('moved');
    const node = projected({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name, labels: { 'topology.kubernetes.io/zone': 'zone-z' } },
    });
    expect(compute.apply('a', [upsert(node)])?.moved).toEqual([name]);
    expect(compute.classOf(name)).toBe('zone-z');
    expect(compute.registerNode(name, 'zone-y')).toBe('known');
  });
});
