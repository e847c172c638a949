import { parseCidr } from '@octoplane/model/address.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, endpointFlags, type ServicePortSpec } from '@octoplane/model/rule-set.ts';
import { silentLogger } from '@octoplane/node/testing/logger.ts';
import { describe, expect, it } from 'vitest';
import type { DriverOptions } from '../driver.ts';
import { FamilyState } from './family.ts';
import { settingsOf } from './settings.ts';
import { visibleEntry } from './visible.ts';

/** What iptables-restore is given, as an operator would read it. `vitest -u` rewrites the golden files. */
const options: DriverOptions = {
  logger: silentLogger,
  clusterCidrs: ['10.244.0.0/16', 'fd00:244::/32'].flatMap((text) => parseCidr(text) ?? []),
  masqueradeAll: false,
  masqueradeBit: 14,
  nodePortAddresses: { t: 'all' },
  nodeAddresses: ['172.18.0.1', 'fd00:18::1'],
  icmp: 'reply',
  dropInvalid: true,
  cgroupPath: '',
  bpfFsPath: '',
  stateDir: '',
};
const { cluster, local } = endpointFlags;

const spec: ServicePortSpec = {
  clusterIps: ['10.96.0.10', 'fd00:96::a'],
  externalIps: [],
  loadBalancerIps: [],
  nodePort: 0,
  internalPolicy: 'Cluster',
  externalPolicy: 'Cluster',
  affinityTimeoutSeconds: 0,
  sourceRanges: [],
  healthCheckNodePort: 0,
  usableFamilies: 3,
};

const entry = (
  changed: Partial<ServicePortSpec>,
  endpoints: Entry['endpoints'],
  key = 'default/web:80/TCP',
): Entry => ({
  key: key as ServicePortKey,
  spec: { ...spec, ...changed },
  endpoints,
});

const one = { ip: '10.244.1.5', port: 8080, flags: cluster | local };
const two = { ip: '10.244.2.6', port: 8080, flags: cluster };
const six = { ip: 'fd00:244:2::6', port: 8080, flags: cluster };

const stories: Record<string, Entry> = {
  'cluster-ip': entry({}, [one, two, six]),
  'no-endpoints': entry({ usableFamilies: 0, nodePort: 30_080, externalIps: ['198.51.100.1'] }, []),
  'session-affinity': entry({ affinityTimeoutSeconds: 10_800 }, [one, two, six]),
  'external-policy-local': entry(
    { externalPolicy: 'Local', nodePort: 30_080, loadBalancerIps: ['203.0.113.1'], sourceRanges: ['172.18.0.0/24'] },
    [one, two, six],
  ),
  'internal-policy-local': entry({ internalPolicy: 'Local' }, [one, six]),
};

describe('a new service, as iptables-restore is given it', () => {
  for (const [story, told] of Object.entries(stories)) {
    for (const family of ['IPv4', 'IPv6'] as const) {
      it(`${story} in ${family}`, async () => {
        const state = new FamilyState(settingsOf(family, options, []));
        // What a frame looks like is one story; here only what a service adds to it.
        state.enter(state.planAll(state.model.settings, []));
        const added = state.plan([{ key: told.key, entry: visibleEntry(told, ['IPv4', 'IPv6']) }]);
        await expect(added.text).toMatchFileSnapshot(`golden/${story}.${family}.rules`);
      });
    }
  }

  it.each(['IPv4', 'IPv6'] as const)('the frame in %s', async (family) => {
    const state = new FamilyState(settingsOf(family, options, []));
    await expect(state.planAll(state.model.settings, []).text).toMatchFileSnapshot(`golden/frame.${family}.rules`);
  });

  it('one endpoint less: one chain is rewritten and nothing else', () => {
    const state = new FamilyState(settingsOf('IPv4', options, []));
    const change = (told: Entry | null) => [{ key: 'default/web:80/TCP' as ServicePortKey, entry: told }];
    state.enter(state.plan(change(entry({}, [one, two]))));
    expect(state.plan(change(entry({}, [one]))).text).toMatchInlineSnapshot(`
      "*nat
      :OCTO-SVC-16580869F0A8BCA1 - [0:0]
      -A OCTO-SVC-16580869F0A8BCA1 -j OCTO-OFFCLUSTER
      -A OCTO-SVC-16580869F0A8BCA1 -p tcp -j DNAT --to-destination 10.244.1.5:8080
      COMMIT
      "
    `);
  });
});
