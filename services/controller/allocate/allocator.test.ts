import { type Cidr, cidrContains, parseCidr } from '@octoplane/model/address.ts';
import { type ServiceName, serviceName } from '@octoplane/model/keys.ts';
import type { Service } from '@octoplane/model/objects.ts';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { projected } from '../../../test/support/synthetic.ts';
import { claimsOf } from '../state/claims.ts';
import { AddressRange } from './address-range.ts';
import { Allocator, type Completed } from './allocator.ts';

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed) throw new Error(text);
  return parsed;
}

function service(name: string, spec: Record<string, unknown> = {}): Service {
  const object = projected({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: { ports: [{ port: 80 }], ...spec },
  });
  if (object.kind !== 'Service') throw new Error('not a Service');
  return object.service;
}

const free = (): boolean => true;

function completed(result: Completed): Service {
  if (result.t === 'refused') throw new Error(result.reason);
  return result.service;
}

describe('cluster IPs', () => {
  test('are the same after a restart, without anything kept', () => {
    const give = () =>
      completed(new Allocator({ serviceCidrs: [cidr('10.96.0.0/12')] }).complete(service('web'), free));
    const { clusterIps } = give();
    expect(clusterIps).toHaveLength(1);
    expect(give().clusterIps).toEqual(clusterIps);
  });

  test('are within the network, and of one Service only, until none is left', () => {
    const network = cidr('10.96.0.0/28');
    const allocator = new Allocator({ serviceCidrs: [network] });
    const given = new Set<string>();
    for (let i = 0; i < 14; i++) {
      const [ip = ''] = completed(allocator.complete(service(`web-${i}`), free)).clusterIps;
      expect(cidrContains(network, ip)).toBe(true);
      given.add(ip);
    }
    expect(given.size).toBe(14);
    expect(given).not.toContain('10.96.0.0');
    expect(given).not.toContain('10.96.0.15');
    const refused = allocator.complete(service('web-14'), free);
    expect(refused).toMatchObject({ t: 'refused', reason: expect.stringContaining('10.96.0.0/28') });
    allocator.release(serviceName('default', 'web-3'));
    expect(allocator.complete(service('web-14'), free).t).toBe('complete');
  });

  test('stay while the Service changes, and go to both families when asked to', () => {
    const allocator = new Allocator({ serviceCidrs: [cidr('10.96.0.0/12'), cidr('fd00:96::/108')] });
    const [v4] = completed(allocator.complete(service('web'), free)).clusterIps;
    const dual = completed(allocator.complete(service('web', { ipFamilyPolicy: 'PreferDualStack' }), free));
    expect(dual.clusterIps[0]).toBe(v4);
    expect(dual.clusterIps[1]).toMatch(/^fd00:96::/);
    const v6 = completed(allocator.complete(service('v6', { ipFamilies: ['IPv6'] }), free));
    expect(v6.clusterIps).toEqual([expect.stringMatching(/^fd00:96::/)]);
  });

  test('a family without a network is refused when required, and left out when preferred', () => {
    const allocator = new Allocator({ serviceCidrs: [cidr('10.96.0.0/12')] });
    const required = allocator.complete(service('web', { ipFamilyPolicy: 'RequireDualStack' }), free);
    expect(required).toMatchObject({ t: 'refused', reason: expect.stringContaining('--service-cidr') });
    const preferred = allocator.complete(service('web', { ipFamilyPolicy: 'PreferDualStack' }), free);
    expect(completed(preferred).clusterIps).toHaveLength(1);
  });

  test('kept ones count before names do', () => {
    const name = serviceName('default', 'web');
    const kept = new Map([[name, { clusterIps: ['10.96.7.7'], nodePorts: {}, healthCheckNodePort: 0 }]]);
    const allocator = new Allocator({ serviceCidrs: [cidr('10.96.0.0/12')], allocations: kept });
    expect(completed(allocator.complete(service('web'), free)).clusterIps).toEqual(['10.96.7.7']);
  });

  test('a network that shrank takes its addresses back', () => {
    const kept = new Map([
      [serviceName('default', 'web'), { clusterIps: ['10.99.7.7'], nodePorts: {}, healthCheckNodePort: 0 }],
    ]);
    const allocator = new Allocator({ serviceCidrs: [cidr('10.96.0.0/16')], allocations: kept });
    const [ip = ''] = completed(allocator.complete(service('web'), free)).clusterIps;
    expect(cidrContains(cidr('10.96.0.0/16'), ip)).toBe(true);
  });
});

describe('node ports', () => {
  const options = { serviceCidrs: [cidr('10.96.0.0/12')] };

  test('of NodePort and LoadBalancer Services, the same number for TCP and UDP of one port', () => {
    const ports = [
      { name: 'tcp', port: 53, protocol: 'TCP' },
      { name: 'udp', port: 53, protocol: 'UDP' },
    ];
    const dns = completed(new Allocator(options).complete(service('dns', { type: 'NodePort', ports }), free));
    const [a, b] = dns.ports.map(({ nodePort }) => nodePort);
    expect(a).toBe(b);
    expect(a).toBeGreaterThanOrEqual(30_000);
    expect(a).toBeLessThanOrEqual(32_767);
  });

  test('not where allocateLoadBalancerNodePorts is false (P8), but for the health check', () => {
    const spec = { type: 'LoadBalancer', allocateLoadBalancerNodePorts: false, externalTrafficPolicy: 'Local' };
    const balanced = completed(new Allocator(options).complete(service('lb', spec), free));
    expect(balanced.ports[0]?.nodePort).toBe(0);
    expect(balanced.healthCheckNodePort).toBeGreaterThanOrEqual(30_000);
  });

  test('named ones stay, and are not given to another port of the Service', () => {
    const ports = [
      { name: 'a', port: 80, nodePort: 30_001 },
      { name: 'b', port: 81 },
    ];
    const allocator = new Allocator({ ...options, nodePorts: { first: 30_000, last: 30_001 } });
    const { ports: given } = completed(allocator.complete(service('web', { type: 'NodePort', ports }), free));
    expect(given.map(({ nodePort }) => nodePort)).toEqual([30_001, 30_000]);
  });

  test('none is left', () => {
    const allocator = new Allocator({ ...options, nodePorts: { first: 30_000, last: 30_000 } });
    expect(allocator.complete(service('a', { type: 'NodePort' }), free).t).toBe('complete');
    expect(allocator.complete(service('b', { type: 'NodePort' }), free)).toMatchObject({ t: 'refused' });
  });
});

test('no two Services ever have the same, whatever comes and goes', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  const step = fc.record({
    name: fc.constantFrom(...names),
    type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer', 'gone'),
    external: fc.constantFrom('Cluster', 'Local'),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
      const allocator = new Allocator({
        serviceCidrs: [cidr('10.96.0.0/29')],
        nodePorts: { first: 30_000, last: 30_007 },
      });
      const live = new Map<ServiceName, Service>();
      for (const { name, type, external } of steps) {
        const key = serviceName('default', name);
        live.delete(key);
        if (type === 'gone') {
          allocator.release(key);
          continue;
        }
        const wanted = service(name, { type, ...(type === 'ClusterIP' ? {} : { externalTrafficPolicy: external }) });
        const result = allocator.complete(wanted, free);
        if (result.t === 'complete') live.set(key, result.service);
        else allocator.release(key);
        const claims = [...live.values()].flatMap(claimsOf);
        expect(new Set(claims).size).toBe(claims.length);
      }
    }),
  );
});

test('a range names every address once', () => {
  for (const network of ['10.96.0.0/24', 'fd00:96::/120', '10.96.0.0/30']) {
    const range = new AddressRange(cidr(network));
    const all = [...range.candidates('seed')];
    expect(new Set(all).size).toBe(range.size);
    expect(all).toHaveLength(range.size);
  }
});
