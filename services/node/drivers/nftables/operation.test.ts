import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Endpoint, type Entry, endpointFlags, type ServicePortSpec } from '@octoplane/model/rule-set.ts';
import { describe, expect, it } from 'vitest';
import { Books } from './books.ts';
import { renderText } from './operation.ts';

const { cluster, local, draining } = endpointFlags;
const web = 'default/web:80/TCP' as ServicePortKey;
const plain: ServicePortSpec = {
  clusterIps: ['10.96.0.10'],
  externalIps: [],
  loadBalancerIps: [],
  nodePort: 0,
  internalPolicy: 'Cluster',
  externalPolicy: 'Cluster',
  affinityTimeoutSeconds: 0,
  sourceRanges: [],
  healthCheckNodePort: 0,
  usableFamilies: 1,
};
const pod = (n: number, flags: number = cluster): Endpoint => ({ ip: `10.244.1.${n}`, port: 8080, flags });
const entry = (endpoints: readonly Endpoint[], spec: Partial<ServicePortSpec> = {}, key = web): Entry => ({
  key,
  spec: { ...plain, ...spec },
  endpoints,
});

/** Applies each state after the other, and returns the text of the last transaction. */
function lastTransaction(...states: readonly (readonly Entry[])[]): string {
  const books = new Books();
  let held: readonly Entry[] = [];
  let text = '';
  for (const state of states) {
    const gone = held.filter(({ key }) => !state.some((other) => other.key === key));
    const changes = [
      ...gone.map((before) => ({ key: before.key, before, after: null })),
      ...state.map((after) => ({ key: after.key, before: null, after })),
    ];
    expect(books.check(changes)).toEqual([]);
    const plan = books.plan(changes);
    plan.commit();
    text = renderText(plan.operations);
    held = state;
  }
  return text.replaceAll('inet octoplane ', '');
}

describe('a transaction, as nft would have it', () => {
  it('a cluster IP with three endpoints', () => {
    expect(lastTransaction([entry([pod(1), pod(2), pod(3)])])).toMatchInlineSnapshot(`
      "add element internal4 { 10.96.0.10 . tcp . 80 comment "default/web:80/TCP clusterIP Cluster usable=IPv4" }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 0 : 10.244.1.1 . 8080 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 1 : 10.244.1.2 . 8080 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 2 : 10.244.1.3 . 8080 }
      add element cluster-ip4 { 10.96.0.10 }
      add element ping4 { 10.96.0.10 }
      "
    `);
  });

  it('one endpoint leaves: the last one moves into its place', () => {
    expect(
      lastTransaction([entry([pod(1), pod(2), pod(3)])], [entry([pod(2), pod(3)])], [entry([pod(2), pod(3), pod(4)])]),
    ).toMatchInlineSnapshot(`
      "delete element endpoint4 { 10.96.0.10 . tcp . 80 . 2 }
      delete element endpoint4 { 10.96.0.10 . tcp . 80 . 3 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 2 : 10.244.1.4 . 8080 }
      "
    `);
    expect(
      lastTransaction([entry([1, 2, 3, 4].map((n) => pod(n)))], [entry([2, 3, 4].map((n) => pod(n)))]),
    ).toMatchInlineSnapshot(`
      "delete element endpoint4 { 10.96.0.10 . tcp . 80 . 0 }
      delete element endpoint4 { 10.96.0.10 . tcp . 80 . 3 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 0 : 10.244.1.4 . 8080 }
      "
    `);
  });

  it('the fifth endpoint makes a frontend wide', () => {
    const text = lastTransaction([entry([1, 2, 3, 4].map((n) => pod(n)))], [entry([1, 2, 3, 4, 5].map((n) => pod(n)))]);
    // Each chain has 16 rules to draw by; chains.test.ts looks at those.
    expect(text.replace(/^add rule \S+ dnat .*\n/gm, '')).toMatchInlineSnapshot(`
      "add chain balance-8
      flush chain balance-8
      add chain balance-4
      flush chain balance-4
      add rule balance-4 ip daddr . meta l4proto . th dport . numgen random mod 1 offset 4 @wide4 goto balance-8
      add rule balance-4 ip6 daddr . meta l4proto . th dport . numgen random mod 1 offset 4 @wide6 goto balance-8
      add element wide4 { 10.96.0.10 . tcp . 80 . 4 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 4 : 10.244.1.5 . 8080 }
      "
    `);
  });

  it('no endpoint: rejected; some elsewhere: dropped; draining ones do not count', () => {
    expect(lastTransaction([entry([], { usableFamilies: 0 })])).toMatchInlineSnapshot(`
      "add element refuse4 { 10.96.0.10 . tcp . 80 comment "default/web:80/TCP clusterIP Cluster usable=none" : return }
      add element cluster-ip4 { 10.96.0.10 }
      "
    `);
    expect(lastTransaction([entry([pod(1, draining)], { internalPolicy: 'Local' })])).toMatchInlineSnapshot(`
      "add element refuse4 { 10.96.0.10 . tcp . 80 comment "default/web:80/TCP clusterIP Local usable=IPv4" : drop }
      add element cluster-ip4 { 10.96.0.10 }
      add element ping4 { 10.96.0.10 }
      "
    `);
  });

  it('a load balancer with the Local policy, source ranges and a node port', () => {
    expect(
      lastTransaction([
        entry([pod(1, cluster | local), pod(2)], {
          loadBalancerIps: ['203.0.113.10'],
          nodePort: 30_080,
          externalPolicy: 'Local',
          sourceRanges: ['10.0.0.0/8', '10.1.0.0/16', '192.0.2.0/24'],
        }),
      ]),
    ).toMatchInlineSnapshot(`
      "add element internal4 { 10.96.0.10 . tcp . 80 comment "default/web:80/TCP clusterIP Cluster usable=IPv4" }
      add element external-local4 { 203.0.113.10 . tcp . 80 comment "default/web:80/TCP loadBalancerIP Local usable=IPv4" }
      add element guarded4 { 203.0.113.10 . tcp . 80 }
      add element source-range4 { 203.0.113.10 . tcp . 80 . 10.0.0.0/8 }
      add element source-range4 { 203.0.113.10 . tcp . 80 . 192.0.2.0/24 }
      add element node-port-local4 { tcp . 30080 comment "default/web:80/TCP nodePort Local usable=IPv4" }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 0 : 10.244.1.1 . 8080 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 1 : 10.244.1.2 . 8080 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 2 : 10.244.1.1 . 8080 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 3 : 10.244.1.2 . 8080 }
      add element endpoint4 { 203.0.113.10 . tcp . 80 . 0 : 10.244.1.1 . 8080 }
      add element endpoint4 { 203.0.113.10 . tcp . 80 . 1 : 10.244.1.2 . 8080 }
      add element endpoint4 { 203.0.113.10 . tcp . 80 . 2 : 10.244.1.1 . 8080 }
      add element endpoint4 { 203.0.113.10 . tcp . 80 . 3 : 10.244.1.2 . 8080 }
      add element endpoint4 { 203.0.113.10 . tcp . 80 . 32768 : 10.244.1.1 . 8080 }
      add element endpoint4 { 203.0.113.10 . tcp . 80 . 32769 : 10.244.1.1 . 8080 }
      add element endpoint4 { 203.0.113.10 . tcp . 80 . 32770 : 10.244.1.1 . 8080 }
      add element endpoint4 { 203.0.113.10 . tcp . 80 . 32771 : 10.244.1.1 . 8080 }
      add element node-port-endpoint4 { tcp . 30080 . 0 : 10.244.1.1 . 8080 }
      add element node-port-endpoint4 { tcp . 30080 . 1 : 10.244.1.2 . 8080 }
      add element node-port-endpoint4 { tcp . 30080 . 2 : 10.244.1.1 . 8080 }
      add element node-port-endpoint4 { tcp . 30080 . 3 : 10.244.1.2 . 8080 }
      add element node-port-endpoint4 { tcp . 30080 . 32768 : 10.244.1.1 . 8080 }
      add element node-port-endpoint4 { tcp . 30080 . 32769 : 10.244.1.1 . 8080 }
      add element node-port-endpoint4 { tcp . 30080 . 32770 : 10.244.1.1 . 8080 }
      add element node-port-endpoint4 { tcp . 30080 . 32771 : 10.244.1.1 . 8080 }
      add element cluster-ip4 { 10.96.0.10 }
      add element ping4 { 10.96.0.10 }
      "
    `);
  });

  it('client-IP affinity, on and off', () => {
    const sticky = entry([pod(1)], { affinityTimeoutSeconds: 10_800 });
    expect(lastTransaction([sticky])).toMatchInlineSnapshot(`
      "add map affinity4-25744bfa { type ipv4_addr : ipv4_addr . inet_service; size 262144; flags dynamic,timeout; timeout 10800s; comment "default/web:80/TCP cluster"; }
      add map affinity6-25744bfa { type ipv6_addr : ipv6_addr . inet_service; size 262144; flags dynamic,timeout; timeout 10800s; comment "default/web:80/TCP cluster"; }
      add chain remember-25744bfa { comment "default/web:80/TCP"; }
      flush chain remember-25744bfa
      add rule remember-25744bfa meta l4proto tcp dnat ip to ip saddr map @affinity4-25744bfa
      add rule remember-25744bfa meta l4proto tcp dnat ip6 to ip6 saddr map @affinity6-25744bfa
      add chain learn-25744bfa { comment "default/web:80/TCP"; }
      flush chain learn-25744bfa
      add rule learn-25744bfa update @affinity4-25744bfa { ip saddr : ip daddr . th dport }
      add rule learn-25744bfa update @affinity6-25744bfa { ip6 saddr : ip6 daddr . th dport }
      add element internal4 { 10.96.0.10 . tcp . 80 comment "default/web:80/TCP clusterIP Cluster usable=IPv4" }
      add element sticky4 { 10.96.0.10 . tcp . 80 : jump remember-25744bfa }
      add element learn4 { 10.96.0.10 . tcp . 80 : jump learn-25744bfa }
      add element member4 { tcp . 10.244.1.1 . 8080 . 10.96.0.10 . 80 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 0 : 10.244.1.1 . 8080 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 1 : 10.244.1.1 . 8080 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 2 : 10.244.1.1 . 8080 }
      add element endpoint4 { 10.96.0.10 . tcp . 80 . 3 : 10.244.1.1 . 8080 }
      add element cluster-ip4 { 10.96.0.10 }
      add element ping4 { 10.96.0.10 }
      "
    `);
    expect(lastTransaction([sticky], [entry([pod(1)])])).toMatchInlineSnapshot(`
      "delete element sticky4 { 10.96.0.10 . tcp . 80 }
      delete element learn4 { 10.96.0.10 . tcp . 80 }
      delete element member4 { tcp . 10.244.1.1 . 8080 . 10.96.0.10 . 80 }
      flush chain remember-25744bfa
      delete chain remember-25744bfa
      flush chain learn-25744bfa
      delete chain learn-25744bfa
      delete map affinity4-25744bfa
      delete map affinity6-25744bfa
      "
    `);
  });

  it('two services swap their cluster IPs', () => {
    const api = 'default/api:80/TCP' as ServicePortKey;
    const of = (key: ServicePortKey, ip: string) => entry([pod(1)], { clusterIps: [ip] }, key);
    expect(
      lastTransaction([of(web, '10.96.0.1'), of(api, '10.96.0.2')], [of(web, '10.96.0.2'), of(api, '10.96.0.1')]),
    ).toMatchInlineSnapshot(`
      "delete element internal4 { 10.96.0.1 . tcp . 80 }
      delete element internal4 { 10.96.0.2 . tcp . 80 }
      add element internal4 { 10.96.0.2 . tcp . 80 comment "default/web:80/TCP clusterIP Cluster usable=IPv4" }
      add element internal4 { 10.96.0.1 . tcp . 80 comment "default/api:80/TCP clusterIP Cluster usable=IPv4" }
      "
    `);
  });

  it('a cluster IP of two ports is one element, until both are gone', () => {
    const dns = 'default/web:53/UDP' as ServicePortKey;
    const other = entry([pod(1)], {}, dns);
    expect(lastTransaction([entry([pod(1)]), other], [other])).not.toContain('cluster-ip');
    expect(lastTransaction([entry([pod(1)]), other], [])).toContain('delete element cluster-ip4 { 10.96.0.10 }');
  });

  it('nothing is done for what is there', () => {
    const state = [entry([pod(1), pod(2)], { affinityTimeoutSeconds: 60, nodePort: 30_080 })];
    expect(lastTransaction(state, state)).toBe('');
  });

  it('a frontend that somebody has is refused, by name', () => {
    const books = new Books();
    books.plan([{ key: web, before: null, after: entry([pod(1)]) }]).commit();
    const rival = 'default/rival:80/TCP' as ServicePortKey;
    const refusals = books.check([{ key: rival, before: null, after: entry([pod(2)], {}, rival) }]);
    expect(refusals).toEqual([
      { key: rival, reason: 'invalid', message: `${rival} wants 10.96.0.10 port 80/TCP, which ${web} has` },
    ]);
  });
});
