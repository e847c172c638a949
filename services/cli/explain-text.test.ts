import { NodeBook } from '@octoplane/controller/acks/node-book.ts';
import { type ExplainDependencies, explainCall } from '@octoplane/controller/admin/explain-call.ts';
import { Allocator } from '@octoplane/controller/allocate/allocator.ts';
import { zoneOfClass } from '@octoplane/controller/compute/class-view.ts';
import { Compute } from '@octoplane/controller/compute/compute.ts';
import { History } from '@octoplane/controller/history/history.ts';
import type { SourceEvent } from '@octoplane/controller/sources/source.ts';
import { ClusterState } from '@octoplane/controller/state/cluster-state.ts';
import { Nack_Reason } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { nodeName, type ServicePortKey } from '@octoplane/model/keys.ts';
import { describe, expect, test } from 'vitest';
import { synced, upsert } from '../../test/support/churn.ts';
import { ManualClock } from '../../test/support/stub-nodes/manual-clock.ts';
import { type Manifest, projected } from '../../test/support/synthetic.ts';
import { describeExplanation } from './explain-text.ts';

const object = (apiVersion: string, kind: string, name: string, rest: Manifest, labels: Manifest = {}): SourceEvent =>
  upsert(projected({ apiVersion, kind, metadata: { name, labels }, ...rest }));

const node = (name: string, zone: string) => object('v1', 'Node', name, {}, { 'topology.kubernetes.io/zone': zone });

const service = (spec: Manifest, name = 'web') =>
  object('v1', 'Service', name, { spec: { clusterIP: '10.96.0.10', ports: [{ name: 'http', port: 80 }], ...spec } });

interface Given {
  readonly at: number;
  readonly node?: string;
  readonly ready?: boolean;
  readonly serving?: boolean;
  readonly terminating?: boolean;
  readonly hint?: string;
}

const slice = (name: string, endpoints: readonly Given[], overrides: Manifest = {}) =>
  object(
    'discovery.k8s.io/v1',
    'EndpointSlice',
    name,
    {
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 8080 }],
      endpoints: endpoints.map(({ at, node: nodeName = `node-${at}`, hint, ...conditions }) => ({
        addresses: [`10.244.${at}.2`],
        conditions,
        nodeName,
        ...(hint === undefined ? {} : { hints: { forZones: [{ name: hint }] } }),
      })),
      ...overrides,
    },
    { 'kubernetes.io/service-name': 'web' },
  );

/** A controller without its edges: three nodes in two zones, of which the first two have acknowledged everything. */
function controllerOf(...events: readonly SourceEvent[]) {
  const state = new ClusterState({ sources: ['lab'], allocator: new Allocator({ serviceCidrs: [] }) });
  const views = new Compute(state);
  const history = new History({ epoch: 1 });
  const book = new NodeBook(history, views);
  const clock = new ManualClock();
  const commit = (...more: readonly SourceEvent[]) => {
    const batch = views.apply('lab', more);
    if (batch) book.committed(history.commit(batch, clock.nowUs()));
  };
  commit(node('node-1', 'zone-a'), node('node-2', 'zone-a'), node('node-3', 'zone-b'), synced());
  const join = (name: string) => {
    views.registerNode(nodeName(name), null);
    const introduction = { zone: '', driver: 'nftables', release: '1', peer: '', held: null, digest: null };
    return book.connected(nodeName(name), introduction, clock.nowUs());
  };
  const [one, two] = ['node-1', 'node-2'].map(join);
  if (!one || !two) throw new RangeError('two nodes');
  const ack = (record: typeof one, heldBack: ReadonlyMap<ServicePortKey, unknown> = new Map()) =>
    book.programmed(
      record,
      { sequence: history.head, digest: 0n, durations: undefined, heldBack, frame: null },
      clock.nowUs(),
    );
  commit(...events);
  for (const record of [one, two]) ack(record);
  const directory = Object.assign(state, {
    clusters: [state],
    directoryOf: () => state,
    zoneOf: (id: string) => zoneOfClass(null, id),
  });
  const dependencies: ExplainDependencies = { book, clock, history, views, directory };
  /** Ages are as long as the test takes. */
  const explained = (target: string, from = '') =>
    describeExplanation(explainCall({ target, node: from }, dependencies), false).replaceAll(/\d+[smhd] ago/g, 'AGO');
  return { commit, ack, one, book, explained };
}

describe('octoplane explain', () => {
  test('hints, readiness, and what ends, on a node', () => {
    const { explained } = controllerOf(
      service({ type: 'NodePort', ports: [{ name: 'http', port: 80, nodePort: 30_080 }] }),
      slice('web-1', [
        { at: 1, hint: 'zone-a' },
        { at: 2, ready: false, hint: 'zone-a' },
        { at: 3, hint: 'zone-b' },
        { at: 4, ready: false, serving: true, terminating: true },
        { at: 5, ready: false, serving: false, terminating: true },
      ]),
      slice('web-2', [{ at: 1, hint: 'zone-a' }]),
      slice('web-3', [{ at: 6 }], { ports: [{ name: 'admin', port: 9090 }] }),
    );
    expect(explained('default/web', 'node-1')).toBe(
      `Service default/web, NodePort, from source lab (synthetic)
version 2, AGO, because of Service default/web at synthetic of lab, EndpointSlice default/web-1 at synthetic of lab and 2 more
node-1: zone zone-a, driver nftables, current, version 2

default/web:80/TCP (http) at 10.96.0.10:80, node port 30080
  endpoints hinted for zone-a, because every ready one has a hint
  ENDPOINT         USED  IN KERNEL  WHY                                                   CONDITION             NODE    ZONE
  10.244.1.2:8080  yes   yes        ready                                                 ready                 node-1  -
  10.244.2.2:8080  no    no         not ready                                             not ready             node-2  -
  10.244.3.2:8080  no    no         hinted for zone-b                                     ready                 node-3  -
  10.244.4.2:8080  no    no         terminating: keeps its connections, gets no new ones  terminating, serving  node-4  -
  10.244.5.2:8080  no    no         terminating, and does not serve any more              terminating           node-5  -
  10.244.1.2:8080  no    -          another slice has it too, and counts                  ready                 node-1  -
  10.244.6.2       no    no         its slice has no port of this name and protocol       ready                 node-6  -
`,
    );
  });

  test('without a node: once for every zone, or once where they are alike', () => {
    const hinted = controllerOf(
      service({}),
      slice('web-1', [
        { at: 1, hint: 'zone-a' },
        { at: 3, hint: 'zone-b' },
      ]),
    );
    const text = hinted.explained('10.96.0.10:80');
    expect(text).toContain('From zone zone-a (2 nodes):');
    expect(text).toContain('From zone zone-b (1 node):');
    const plain = controllerOf(service({}), slice('web-1', [{ at: 1, hint: 'zone-a' }, { at: 3 }]));
    expect(plain.explained('default/web')).toContain(
      'From zones zone-a, zone-b (3 nodes):\n\ndefault/web:80/TCP (http) at 10.96.0.10:80\n' +
        '  endpoints anywhere: 1 of 2 ready ones lack a zone hint, and hints count only when all have one\n',
    );
  });

  test('Local policies, each for itself', () => {
    const local = {
      type: 'NodePort',
      externalTrafficPolicy: 'Local',
      ports: [{ name: 'http', port: 80, nodePort: 30_080 }],
    };
    const { explained } = controllerOf(service(local), slice('web-1', [{ at: 1 }, { at: 2 }]));
    const text = explained(':30080', 'node-1');
    expect(text).toMatch(/10\.244\.1\.2:8080 +yes +yes +ready +ready/);
    expect(text).toMatch(/10\.244\.2\.2:8080 +yes +yes +Cluster: chosen; Local: on node-2 +ready/);
    const only = controllerOf(service({ internalTrafficPolicy: 'Local' }), slice('web-1', [{ at: 2 }]));
    expect(only.explained('default/web', 'node-1')).toContain(
      '  no frontend leads to endpoints on other nodes\n  no endpoint is chosen here, and some serve elsewhere: connections are dropped\n',
    );
  });

  test('the last endpoint that serves, and none at all', () => {
    const ending = controllerOf(
      service({}),
      slice('web-1', [{ at: 1, ready: false, serving: true, terminating: true }]),
    );
    expect(ending.explained('default/web', 'node-1')).toMatch(/yes +yes +it ends, and no other one is ready/);
    const none = controllerOf(service({}), slice('web-1', [{ at: 1, ready: false }]));
    expect(none.explained('default/web')).toContain('no endpoint serves anywhere: connections are rejected');
  });

  test('what the node has refused, and what it has yet to acknowledge', () => {
    const { commit, ack, one, book, explained } = controllerOf(service({}), slice('web-1', [{ at: 1 }]));
    commit(slice('web-1', [{ at: 1 }, { at: 2 }]));
    expect(explained('default/web', 'node-1')).toMatch(/10\.244\.2\.2:8080 +yes +not acknowledged +ready/);
    const key = 'default/web:80/TCP' as ServicePortKey;
    book.refused(one, key, { reason: Nack_Reason.CAPACITY, message: 'no room', entry: null });
    ack(one, new Map([[key, null]]));
    const text = explained('default/web', 'node-1');
    expect(text).toContain('the node refused this entry and has what it had before: no room');
    expect(text).toMatch(/10\.244\.2\.2:8080 +yes +no +ready/);
  });

  test('a Service that is not served says why', () => {
    const { explained } = controllerOf(service({ clusterIP: 'None' }));
    expect(explained('default/web')).toContain(
      'no rules: a headless Service has no address: clients find its endpoints in DNS',
    );
    const contested = controllerOf(service({}), service({}, 'other'));
    expect(contested.explained('default/web')).toContain(
      'Service default/web is not served: cluster IP 10.96.0.10 belongs to Service default/other; give one of them another',
    );
  });

  test.each([
    ['web', 'write NAMESPACE/NAME'],
    ['default/nothing', 'there is no Service default/nothing'],
    ['10.96.0.10:81', 'no Service has port 81 at 10.96.0.10; there is default/web (80)'],
    ['10.96.0.99:80', 'no Service has the address 10.96.0.99:80'],
    [':30081', 'no Service has node port 30081'],
  ])('%s: %s', (target, message) => {
    const { explained } = controllerOf(service({}));
    expect(() => explained(target)).toThrow(message);
  });

  test('a node that nobody knows', () => {
    const { explained } = controllerOf(service({}));
    expect(() => explained('default/web', 'node-9')).toThrow('there is no node node-9');
    expect(explained('default/web', 'node-3')).not.toContain('IN KERNEL');
  });
});
