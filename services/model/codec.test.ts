import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ruleSet } from '../../test/support/rule-sets.ts';
import { deltaFromProto, deltaToProto, entryToProto, InvalidEntryError } from './codec.ts';
import { apply, diff } from './delta.ts';
import { ServicePortChange, ServicePortSpec, TrafficPolicy } from './gen/octoplane/v1/rules.ts';

const onTheWire = (changes: readonly ServicePortChange[]): ServicePortChange[] =>
  changes.map((change) => ServicePortChange.decode(ServicePortChange.encode(change).finish()));

interface Overrides extends Partial<Omit<ServicePortChange, 'spec'>> {
  readonly spec?: Partial<ServicePortSpec>;
}

const change = ({ spec: part, ...overrides }: Overrides): ServicePortChange => ({
  ...ServicePortChange.create(),
  key: 'default/web:80/TCP',
  ...overrides,
  spec: part === undefined ? undefined : { ...ServicePortSpec.create(), ...part },
});

const v4 = Buffer.from([10, 244, 1, 1]);
const spec = { internalPolicy: TrafficPolicy.CLUSTER, externalPolicy: TrafficPolicy.CLUSTER };

describe('laws', () => {
  test('a delta comes through the wire as it was', () => {
    fc.assert(
      fc.property(ruleSet, ruleSet, (a, b) => {
        const wire = onTheWire(deltaToProto(diff(a, b)));
        const delta = deltaFromProto(wire);
        expect(apply(a, delta)).toEqual(b);
        expect(deltaToProto(delta)).toEqual(wire);
      }),
    );
  });

  test('whole entries make the rule set', () => {
    fc.assert(
      fc.property(ruleSet, (a) => {
        expect(apply(new Map(), deltaFromProto(onTheWire([...a.values()].map(entryToProto))))).toEqual(a);
      }),
    );
  });

  test('whatever arrives is refused by name or in canonical form', () => {
    const bytes = fc.uint8Array({ maxLength: 17 }).map((array) => Buffer.from(array));
    const endpoint = fc.record({ ip: fc.oneof(bytes, fc.constant(v4)), port: fc.nat(70_000), flags: fc.nat(16) });
    const arbitrary = fc.record({
      key: fc.oneof(fc.string(), fc.constant('default/web:80/TCP')),
      removed: fc.boolean(),
      upserted: fc.array(endpoint, { maxLength: 3 }),
      removedEndpoints: fc.array(
        endpoint.map((each) => ({ ...each, flags: 0 })),
        { maxLength: 3 },
      ),
    });
    fc.assert(
      fc.property(fc.array(arbitrary, { maxLength: 3 }), (changes) => {
        const proto = changes.map(change);
        try {
          const delta = deltaFromProto(proto);
          expect(deltaToProto(delta)).toEqual(proto);
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidEntryError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('refused', () => {
  test.each([
    ['a key of another form', change({ key: 'default/web' }), 'is not NAMESPACE/NAME:PORT/PROTOCOL'],
    ['removed and changed', change({ removed: true, spec }), 'is removed and changed at once'],
    [
      '3 bytes of address',
      change({ upserted: [{ ip: v4.subarray(1), port: 1, flags: 1 }] }),
      'f40101 is not an IP address',
    ],
    [
      'an IPv4-mapped address',
      change({ upserted: [{ ip: Buffer.concat([Buffer.alloc(10), Buffer.from([255, 255]), v4]), port: 1, flags: 1 }] }),
      '00000000000000000000ffff0af40101 is not an IP address',
    ],
    ['port 0', change({ upserted: [{ ip: v4, port: 0, flags: 1 }] }), 'port 0'],
    ['no flags', change({ upserted: [{ ip: v4, port: 1, flags: 0 }] }), 'endpoint flags 0'],
    ['draining and chosen', change({ upserted: [{ ip: v4, port: 1, flags: 9 }] }), 'endpoint flags 9'],
    ['terminating alone', change({ upserted: [{ ip: v4, port: 1, flags: 4 }] }), 'endpoint flags 4'],
    [
      'endpoints out of order',
      change({
        upserted: [
          { ip: v4, port: 2, flags: 1 },
          { ip: v4, port: 1, flags: 1 },
        ],
      }),
      'endpoints are not ascending',
    ],
    ['no policy', change({ spec: { ...spec, internalPolicy: TrafficPolicy.UNSPECIFIED } }), 'traffic policy 0'],
    [
      'a source range with host bits',
      change({ spec: { ...spec, sourceRanges: ['192.0.2.1/24'] } }),
      'source range 192.0.2.1/24',
    ],
    ['addresses out of order', change({ spec: { ...spec, clusterIps: [v4, v4] } }), '10.244.1.1 is out of order'],
    ['a node port of 70000', change({ spec: { ...spec, nodePort: 70_000 } }), 'port 70000'],
    [
      'an affinity of two days',
      change({ spec: { ...spec, affinityTimeoutSeconds: 172_800 } }),
      'affinity of more than a day',
    ],
    ['usable families 4', change({ spec: { ...spec, usableFamilies: 4 } }), 'usable families 4'],
  ])('%s', (_, proto, message) => {
    expect(() => deltaFromProto([proto])).toThrow(new InvalidEntryError(proto.key, message));
  });

  test('a key twice', () => {
    expect(() => deltaFromProto([change({ spec }), change({ removed: true })])).toThrow('is named twice in one frame');
  });
});
