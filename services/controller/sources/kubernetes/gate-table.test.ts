import { serviceName } from '@octoplane/model/keys.ts';
import type { EndpointSlice, SliceEndpoint } from '@octoplane/model/objects.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Reading } from '../narrator.ts';
import { GateTable } from './gate-table.ts';
import { type GatedPod, gateCondition, readGatedPod } from './gated-pod.ts';

const podNames = ['web-a', 'web-b'] as const;

const endpoint = fc.record({
  ip: fc.constantFrom('10.244.1.1', '10.244.1.2'),
  state: fc.constantFrom('ready', 'lacking', 'of nobody', 'ending'),
  pod: fc.constantFrom(...podNames),
});

const toEndpoint = ({ ip, state, pod }: { ip: string; state: string; pod: string }): SliceEndpoint => ({
  ip,
  ready: state === 'ready',
  serving: state === 'ready',
  terminating: state === 'ending',
  node: null,
  zone: null,
  zoneHints: [],
  nodeHints: [],
  ...(state === 'lacking' ? { pod } : {}),
});

const slice = (name: string, endpoints: readonly SliceEndpoint[]): EndpointSlice => ({
  name: `default/${name}`,
  service: serviceName('default', 'web'),
  family: 'IPv4',
  ports: [],
  endpoints,
  headless: false,
  meta: { revision: '1', createdAtMs: null, changedAtUs: null, traceparent: null },
});

const reading = (name: string, endpoints: readonly SliceEndpoint[]): Reading => ({
  key: `endpointslices/default/${name}`,
  revision: 1,
  read: { t: 'object', object: { kind: 'EndpointSlice', slice: slice(name, endpoints) }, remarks: [] },
});

const endpointsOf = ({ read }: Reading): readonly SliceEndpoint[] =>
  read.t === 'object' && read.object.kind === 'EndpointSlice' ? read.object.slice.endpoints : [];

const pod = (name: string, lacksOnlyGate: boolean): GatedPod => ({
  name: `default/${name}`,
  uid: name,
  ips: [],
  lacksOnlyGate,
  isOpen: false,
});

const step = fc.oneof(
  fc.record({
    t: fc.constant('slice' as const),
    name: fc.constantFrom('s1', 's2'),
    endpoints: fc.array(endpoint, { maxLength: 3 }),
  }),
  fc.record({ t: fc.constant('gone' as const), name: fc.constantFrom('s1', 's2') }),
  fc.record({
    t: fc.constant('pod' as const),
    name: fc.constantFrom(...podNames),
    lacksOnlyGate: fc.option(fc.boolean()),
  }),
);

test('what was told of a slice last is what its endpoints and their Pods say now, in whatever order they came', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30, size: 'max' }), (steps) => {
      const table = new GateTable();
      const slices = new Map<string, readonly SliceEndpoint[]>();
      const pods = new Map<string, boolean>();
      const told = new Map<string, readonly SliceEndpoint[]>();
      const tell = (one: Reading) => told.set(one.key, endpointsOf(one));
      for (const one of steps) {
        if (one.t === 'slice') {
          const endpoints = one.endpoints.map(toEndpoint);
          slices.set(one.name, endpoints);
          tell(table.put(reading(one.name, endpoints)));
        } else if (one.t === 'gone') {
          slices.delete(one.name);
          told.delete(`endpointslices/default/${one.name}`);
          table.remove(`endpointslices/default/${one.name}`);
        } else {
          const { name, lacksOnlyGate } = one;
          pods.set(name, lacksOnlyGate ?? false);
          const answer = table.putPod(`default/${name}`, lacksOnlyGate === null ? null : pod(name, lacksOnlyGate));
          for (const again of answer) tell(again);
        }
        for (const [name, endpoints] of slices) {
          const expected = endpoints.map((each) =>
            each.pod !== undefined && pods.get(each.pod) ? { ...each, ready: true, serving: true, gated: true } : each,
          );
          expect(told.get(`endpointslices/default/${name}`)).toEqual(expected);
        }
      }
    }),
    { numRuns: 300 },
  );
});

const manifest = (
  conditions: Readonly<Record<string, string>>,
  more: { metadata?: object; gates?: readonly string[] } = {},
) => ({
  metadata: { namespace: 'default', name: 'web-a', uid: 'u1', ...more.metadata },
  spec: { readinessGates: (more.gates ?? [gateCondition]).map((conditionType) => ({ conditionType })) },
  status: {
    podIPs: [{ ip: '10.244.1.1' }, { ip: 'FD00:244::1' }],
    conditions: Object.entries(conditions).map(([type, status]) => ({ type, status })),
  },
});

test.each([
  ['its containers are ready', manifest({ ContainersReady: 'True' }), { lacksOnlyGate: true, isOpen: false }],
  ['they are not', manifest({ ContainersReady: 'False' }), { lacksOnlyGate: false }],
  ['it has no conditions yet', manifest({}), { lacksOnlyGate: false }],
  [
    'another gate is closed',
    manifest({ ContainersReady: 'True' }, { gates: [gateCondition, 'example.com/ad'] }),
    { lacksOnlyGate: false },
  ],
  [
    'another gate is open',
    manifest({ ContainersReady: 'True', 'example.com/ad': 'True' }, { gates: ['example.com/ad', gateCondition] }),
    { lacksOnlyGate: true },
  ],
  ['its gate is open', manifest({ ContainersReady: 'True', [gateCondition]: 'True' }), { isOpen: true }],
])('a Pod when %s', (_, fields, expected) => {
  expect(readGatedPod(fields)).toMatchObject({
    name: 'default/web-a',
    uid: 'u1',
    ips: ['10.244.1.1', 'fd00:244::1'],
    ...expected,
  });
});

test.each([
  ['that ends', manifest({ ContainersReady: 'True' }, { metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } })],
  ['with the label and no gate', manifest({ ContainersReady: 'True' }, { gates: [] })],
  ['of nothing', {}],
])('a Pod %s has no gate', (_, fields) => {
  expect(readGatedPod(fields)).toBeNull();
});
