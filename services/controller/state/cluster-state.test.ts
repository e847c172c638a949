import { parseCidr } from '@octoplane/model/address.ts';
import { nodeName, serviceName } from '@octoplane/model/keys.ts';
import type { ObjectId } from '@octoplane/model/project.ts';
import { describe, expect, test } from 'vitest';
import { removal, synced, upsert } from '../../../test/support/churn.ts';
import { type Manifest, projected } from '../../../test/support/synthetic.ts';
import { type Allocations, Allocator } from '../allocate/allocator.ts';
import type { SourceEvent } from '../sources/source.ts';
import { ClusterState } from './cluster-state.ts';

interface Spec {
  readonly created?: string;
  readonly [field: string]: unknown;
}

const service = (name: string, { created, ...spec }: Spec = {}): SourceEvent =>
  upsert(
    projected({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, ...(created === undefined ? {} : { creationTimestamp: created }) },
      spec: { ports: [{ port: 80 }], ...spec },
    }),
  );

const node = (name: string, extra: Manifest = {}): SourceEvent =>
  upsert(projected({ apiVersion: 'v1', kind: 'Node', metadata: { name }, ...extra }));

const slice = (name: string, of: string): SourceEvent =>
  upsert(
    projected({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name, labels: { 'kubernetes.io/service-name': of } },
      addressType: 'IPv4',
      ports: [{ port: 8080 }],
      endpoints: [{ addresses: ['10.244.1.1'] }],
    }),
  );

const gone = (kind: ObjectId['kind'], name: string): SourceEvent => removal({ kind, name });

function newState(sources: readonly string[] = ['a'], onAllocated?: (allocations: Allocations) => void): ClusterState {
  const cidr = parseCidr('10.96.0.0/24');
  const allocator = new Allocator({ serviceCidrs: cidr ? [cidr] : [] });
  return new ClusterState({ sources, allocator, ...(onAllocated ? { onAllocated } : {}) });
}

const name = (text: string) => serviceName('default', text);
const reasons = (state: ClusterState): readonly string[] =>
  state.rejected().map(({ source, object, reason }) => `${source}: ${object}: ${reason}`);

describe('sync', () => {
  test('nothing is known before every source is in sync, then all of it', () => {
    const state = newState(['a', 'b']);
    expect(state.apply('a', [service('web'), synced()])).toBeNull();
    expect(state.services.size).toBe(0);
    expect(state.apply('b', [synced()])?.services).toEqual(new Set([name('web')]));
    expect(state.services.has(name('web'))).toBe(true);
  });

  test('a stale source keeps what it told', () => {
    const state = newState();
    state.apply('a', [service('web'), synced()]);
    expect(state.apply('a', [{ t: 'stale', reason: 'silent', observedAtUs: 5000 }])).toBeNull();
    expect(state.services.size).toBe(1);
    expect(state.reports()[0]).toMatchObject({ condition: { t: 'stale', reason: 'silent' }, sinceMs: 5, objects: 1 });
    state.apply('a', [synced(2)]);
    expect(state.reports()[0]).toMatchObject({ condition: { t: 'synced' }, revision: { source: 'a', revision: 2 } });
  });

  test('an unknown source is a bug', () => {
    expect(() => newState().apply('x', [])).toThrow('x is not one of the sources a');
  });
});

describe('EndpointSlices', () => {
  test('may come before their Service, and outlive it', () => {
    const state = newState();
    state.apply('a', [synced()]);
    expect(state.apply('a', [slice('web-1', 'web')])).toBeNull();
    state.apply('a', [service('web')]);
    expect(state.slicesOf(name('web'))).toHaveLength(1);
    state.apply('a', [gone('Service', 'default/web')]);
    state.apply('a', [service('web')]);
    expect(state.slicesOf(name('web'))).toHaveLength(1);
  });

  test('that change their Service concern both', () => {
    const state = newState();
    state.apply('a', [service('x'), service('y'), slice('s', 'x'), synced()]);
    expect(state.apply('a', [slice('s', 'y')])?.services).toEqual(new Set([name('x'), name('y')]));
    expect(state.slicesOf(name('x'))).toEqual([]);
  });

  test('of another source are not those of this Service', () => {
    const state = newState(['a', 'b']);
    state.apply('a', [service('web'), synced()]);
    state.apply('b', [slice('web-1', 'web'), synced()]);
    expect(state.slicesOf(name('web'))).toEqual([]);
  });
});

describe('the same name in two sources', () => {
  test('the first source has it until it lets go', () => {
    const state = newState(['a', 'b']);
    state.apply('b', [service('web', { clusterIP: '10.96.0.2' }), node('n1', { spec: { taints: [] } }), synced()]);
    state.apply('a', [service('web', { clusterIP: '10.96.0.1' }), node('n1'), synced()]);
    expect(state.sourceOf(name('web'))).toBe('a');
    expect(reasons(state)).toEqual([
      'b: Node n1: source a has it too and comes first; rename one of them',
      'b: Service default/web: source a has it too and comes first; rename one of them',
    ]);
    state.apply('a', [gone('Service', 'default/web'), gone('Node', 'n1')]);
    expect(state.services.get(name('web'))?.clusterIps).toEqual(['10.96.0.2']);
    expect(state.nodes.has(nodeName('n1'))).toBe(true);
    expect(reasons(state)).toEqual([]);
  });
});

describe('contested addresses of Services whose age nobody knows', () => {
  const vip = { clusterIP: '10.96.0.1' };

  test('belong to who has them: a later file takes nothing away, whatever its name', () => {
    const state = newState();
    state.apply('a', [service('m', vip), synced()]);
    state.apply('a', [service('a', vip)]);
    state.apply('a', [service('z', vip)]);
    expect([...state.services.keys()]).toEqual([name('m')]);
    // It keeps them when it changes, too.
    state.apply('a', [service('m', { ...vip, ports: [{ port: 81 }] })]);
    expect([...state.services.keys()]).toEqual([name('m')]);
    state.apply('a', [gone('Service', 'default/m')]);
    expect([...state.services.keys()]).toEqual([name('a')]);
  });

  test('of those that are there at the start go by name, on every replica', () => {
    const orders = [
      [service('m', vip), service('a', vip)],
      [service('a', vip), service('m', vip)],
    ];
    for (const order of orders) {
      const state = newState();
      state.apply('a', [...order, synced()]);
      expect([...state.services.keys()]).toEqual([name('a')]);
    }
  });

  test('are not won by asking for them later, however long one has been there', () => {
    const state = newState();
    state.apply('a', [service('a', { clusterIP: '10.96.0.2' }), service('m', vip), synced()]);
    state.apply('a', [service('a', vip)]);
    expect([...state.services.keys()]).toEqual([name('m')]);
    state.apply('a', [service('a', { clusterIP: '10.96.0.2' })]);
    expect(new Set(state.services.keys())).toEqual(new Set([name('a'), name('m')]));
  });
});

describe('contested addresses', () => {
  const older = '2026-01-01T00:00:00Z';
  const younger = '2026-01-02T00:00:00Z';

  test('go to the older Service, and to the other when it is gone', () => {
    const state = newState();
    state.apply('a', [service('young', { clusterIP: '10.96.0.1', created: younger }), synced()]);
    expect(state.services.has(name('young'))).toBe(true);
    state.apply('a', [service('old', { clusterIP: '10.96.0.1', created: older })]);
    expect([...state.services.keys()]).toEqual([name('old')]);
    expect(reasons(state)).toEqual([
      'a: Service default/young: cluster IP 10.96.0.1 belongs to Service default/old; give one of them another',
    ]);
    state.apply('a', [gone('Service', 'default/old')]);
    expect([...state.services.keys()]).toEqual([name('young')]);
    expect(reasons(state)).toEqual([]);
  });

  test('of the same age, to the name that comes first', () => {
    const state = newState();
    state.apply('a', [service('b', { clusterIP: '10.96.0.1' }), service('a', { clusterIP: '10.96.0.1' }), synced()]);
    expect([...state.services.keys()]).toEqual([name('a')]);
  });

  test('external addresses may be shared where the ports differ', () => {
    const state = newState();
    const at = (port: number) => ({ externalIPs: ['198.51.100.1'], ports: [{ port }] });
    state.apply('a', [service('a', at(80)), service('b', at(443)), service('c', at(443)), synced()]);
    expect([...state.services.keys()].sort()).toEqual([name('a'), name('b')]);
    expect(reasons(state)).toEqual([
      'a: Service default/c: address 198.51.100.1 port 443/TCP belongs to Service default/b; give one of them another',
    ]);
  });

  test('node ports differ by protocol', () => {
    const state = newState();
    const on = (protocol: string) => ({ type: 'NodePort', ports: [{ port: 53, protocol, nodePort: 30_053 }] });
    state.apply('a', [service('a', on('TCP')), service('b', on('UDP')), service('c', on('UDP')), synced()]);
    expect([...state.services.keys()].sort()).toEqual([name('a'), name('b')]);
  });

  test('a refused Service holds nothing', () => {
    const state = newState();
    // b is refused for the address it shares with a, so that c may have its node port.
    const port = { type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] };
    state.apply('a', [
      service('a', { clusterIP: '10.96.0.1' }),
      service('b', { clusterIP: '10.96.0.1', ...port }),
      service('c', { clusterIP: '10.96.0.3', ...port }),
      synced(),
    ]);
    expect([...state.services.keys()].sort()).toEqual([name('a'), name('c')]);
    state.apply('a', [gone('Service', 'default/a')]);
    expect([...state.services.keys()]).toEqual([name('b')]);
  });
});

describe('allocation', () => {
  test('a Service that names what another was given gets it, and the other something else', () => {
    const state = newState();
    state.apply('a', [service('given'), synced()]);
    const [first = ''] = state.services.get(name('given'))?.clusterIps ?? [];
    const change = state.apply('a', [service('named', { clusterIP: first })]);
    expect(change?.services).toEqual(new Set([name('named'), name('given')]));
    expect(state.services.get(name('named'))?.clusterIps).toEqual([first]);
    const [second = ''] = state.services.get(name('given'))?.clusterIps ?? [];
    expect(second).not.toBe(first);
    expect(reasons(state)).toEqual([]);
  });

  test('what was given stays when the Service changes, and is reported for keeping', () => {
    const saved: Allocations[] = [];
    const state = newState(['a'], (allocations) => saved.push(new Map(allocations)));
    state.apply('a', [service('web'), synced()]);
    const { clusterIps } = state.services.get(name('web')) ?? {};
    state.apply('a', [service('web', { sessionAffinity: 'ClientIP' })]);
    expect(state.services.get(name('web'))?.clusterIps).toEqual(clusterIps);
    state.apply('a', [gone('Service', 'default/web')]);
    expect(saved.map((allocations) => allocations.size)).toEqual([1, 0]);
  });

  test('a Service that cannot be given what it needs is refused alone', () => {
    const state = newState();
    state.apply('a', [service('web'), service('six', { ipFamilies: ['IPv6'] }), synced()]);
    expect([...state.services.keys()]).toEqual([name('web')]);
    expect(reasons(state)).toEqual([
      'a: Service default/six: asks for an IPv6 address, but --service-cidr has no IPv6 network; add one',
    ]);
  });
});

test('a Service that got nothing is served when another lets go', () => {
  const cidr = parseCidr('10.96.0.0/30');
  const state = new ClusterState({ sources: ['a'], allocator: new Allocator({ serviceCidrs: cidr ? [cidr] : [] }) });
  state.apply('a', [service('a'), service('b'), service('c'), synced()]);
  expect([...state.services.keys()].sort()).toEqual([name('a'), name('b')]);
  expect(reasons(state)).toEqual([
    'a: Service default/c: no address is left in 10.96.0.0/30; give --service-cidr a larger network',
  ]);
  state.apply('a', [gone('Service', 'default/a')]);
  expect([...state.services.keys()].sort()).toEqual([name('b'), name('c')]);
  expect(reasons(state)).toEqual([]);
});

test('leaving nodes are another set whenever they change', () => {
  const state = newState();
  state.apply('a', [node('n1'), synced()]);
  const before = state.leaving;
  state.apply('a', [node('n1')]);
  expect(state.leaving).toBe(before);
  state.apply('a', [node('n1', { spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler' }] } })]);
  expect(state.leaving).toEqual(new Set(['n1']));
  expect(before.size).toBe(0);
});

test('causes name objects in the order of their arrival', () => {
  const state = newState();
  state.apply('a', [synced()]);
  const change = state.apply('a', [service('web'), slice('web-1', 'web'), gone('Service', 'default/x')]);
  expect(change?.causes.map(({ object }) => object)).toEqual([
    'Service default/web',
    'EndpointSlice default/web-1',
    'Service default/x',
  ]);
});
