import { nodeName, serviceName } from '@octoplane/model/keys.ts';
import { describe, expect, test } from 'vitest';
import { removal, synced, upsert } from '../../../test/support/churn.ts';
import { projected } from '../../../test/support/synthetic.ts';
import {
  at,
  clusterSet,
  exported,
  gone,
  names,
  nodeObject,
  recordedImport,
  service,
  slice,
  started,
  view,
  vip,
} from './testing/clusters.ts';

describe('clusters are apart', () => {
  test('Services of one name, and one address, do not meet', async () => {
    const set = await started();
    for (const [i, name] of names.entries())
      set.apply(name, [service('web', { clusterIP: '10.96.0.10' }), slice('web', [`10.24${i}.0.1`])]);
    for (const [i, name] of names.entries())
      expect(view(set, `n-${name}`)).toEqual({ 'default/web:80/TCP': [`10.24${i}.0.1`] });
    expect(set.rejected()).toEqual([]);
  });

  test('a node is of the cluster that has its Node object, whatever its daemon says, and moves when that changes', async () => {
    const set = await started();
    set.apply('east', [service('e')]);
    set.apply('west', [service('w')]);
    const node = nodeName('n-east');
    const [batch] = set.apply('west', [nodeObject('n-east')]);
    expect(batch?.moved).toEqual([node]);
    expect(set.clusterOf(node)).toBe('west');
    expect(Object.keys(view(set, node))).toEqual(['default/w:80/TCP']);
    set.apply('east', [nodeObject('n-east')]);
    expect(set.clusterOf(node)).toBe('east');
    expect(set.rejected().map(({ source, object }) => `${source} ${object}`)).toEqual(['west Node n-east']);
    set.apply('east', [removal({ kind: 'Node', name: 'n-east' })]);
    set.apply('west', [removal({ kind: 'Node', name: 'n-east' })]);
    expect(set.clusterOf(node)).toBe('east');
    expect(set.rejected()).toEqual([]);
  });

  test('a daemon that says Hello before its Node object has been read is of the cluster that has it', async () => {
    const set = await clusterSet();
    const node = nodeName('early');
    set.registerNode(node, null);
    set.apply('west', [nodeObject('early'), service('w'), synced()]);
    set.apply('east', [service('e'), synced()]);
    const batches = set.apply('north', [synced()]);
    expect(set.clusterOf(node)).toBe('west');
    expect(Object.keys(view(set, 'early'))).toEqual(['default/w:80/TCP']);
    expect(batches.flatMap(({ moved }) => moved)).toContain(node);
  });

  test('a node of a cluster that is not in sync is not answered; the others are, once its lease is over', async () => {
    const set = await clusterSet();
    for (const name of names) set.registerNode(nodeName(`n-${name}`), null, name);
    set.apply('east', [service('web'), exported('web'), synced()]);
    set.apply('west', [synced()]);
    expect(set.inSync).toBe(false);
    expect(set.apply('north', [{ t: 'lapsed', observedAtUs: 1 }]).length).toBeGreaterThan(0);
    expect(names.map((name) => set.serves(nodeName(`n-${name}`)))).toEqual([true, true, false]);
    set.apply('north', [slice('web', ['10.242.0.1']), exported('web', 2), service('web'), synced()]);
    expect(set.serves(nodeName('n-north'))).toBe(true);
    expect(view(set, 'n-east')['default/web.clusterset:80/TCP']).toEqual(['10.242.0.1']);
    expect(view(set, 'n-north')).toEqual({
      'default/web:80/TCP': ['10.242.0.1'],
      'default/web.clusterset:80/TCP': ['10.242.0.1'],
    });
  });
});

describe('what is exported', () => {
  test('is reached in every cluster by one address, beside the cluster IP, until the last export goes', async () => {
    const set = await started();
    set.apply('east', [service('web'), slice('web', ['10.240.0.1'])]);
    set.apply('west', [service('web'), slice('web', ['10.241.0.1'])]);
    set.apply('east', [exported('web')]);
    const key = 'default/web.clusterset:80/TCP';
    for (const name of names) expect(view(set, `n-${name}`)[key]).toEqual(['10.240.0.1']);
    const ip = vip(set, 'n-north', key);
    set.apply('west', [exported('web', 2)]);
    for (const name of names) expect(view(set, `n-${name}`)[key]).toEqual(['10.240.0.1', '10.241.0.1']);
    expect(view(set, 'n-west')['default/web:80/TCP']).toEqual(['10.241.0.1']);
    set.apply('east', [gone('ServiceExport', 'web')]);
    for (const name of names) expect(vip(set, `n-${name}`, key)).toBe(ip);
    set.apply('west', [gone('Service', 'web')]);
    for (const name of names) expect(view(set, `n-${name}`)[key]).toBeUndefined();
    expect(set.rejected().map(({ object, reason }) => `${object}: ${reason}`)).toEqual([
      'ServiceExport default/web: there is no Service default/web that could be exported',
    ]);
  });

  test('another cluster’s endpoints are on no node of this one', async () => {
    const set = await started();
    set.apply('west', [
      service('web', { internalTrafficPolicy: 'Local' }),
      slice('web', ['10.241.0.1'], [{ port: 8080 }], 'n-east'),
      exported('web'),
    ]);
    expect(view(set, 'n-east')['default/web.clusterset:80/TCP']).toEqual([]);
  });

  test('without --clusterset-cidr the export is refused with what to do', async () => {
    const set = await clusterSet(names, false, []);
    for (const name of names) set.apply(name, [synced()]);
    set.apply('east', [service('web'), exported('web')]);
    expect(set.rejected()[0]?.reason).toContain('--clusterset-cidr has no IPv4 network; add one');
  });

  test('two Services that want one address: the older has it, in every cluster by itself', async () => {
    const set = await started(true);
    const first = '10.112.0.50';
    set.apply('east', [service('web'), exported('web', 5), recordedImport('web', first, 5)]);
    set.apply('west', [
      upsert(
        projected({
          apiVersion: 'v1',
          kind: 'Service',
          metadata: { name: 'thief', creationTimestamp: at(9) },
          spec: { clusterIP: first, ports: [{ port: 80 }] },
        }),
      ),
    ]);
    expect(Object.keys(view(set, 'n-west'))).toEqual(['default/web.clusterset:80/TCP']);
    expect(set.rejected().map(({ source, object, reason }) => `${source} ${object} ${reason}`)).toEqual([
      `west Service default/thief cluster IP ${first} belongs to Service default/web.clusterset; give one of them another`,
    ]);
  });
});

describe('addresses on record', () => {
  const key = 'default/web.clusterset:80/TCP';

  test('where they can be recorded nothing is served before; then what is on record, the oldest first', async () => {
    const set = await started(true);
    set.apply('east', [service('web'), exported('web')]);
    expect(vip(set, 'n-west', key)).toBeUndefined();
    const state = set.imports?.states.get(serviceName('default', 'web'));
    const wanted = state?.placed?.t === 'waiting' ? state.placed.wanted : [];
    expect(wanted).toHaveLength(1);
    set.apply('west', [recordedImport('web', '10.112.9.9', 7)]);
    expect(vip(set, 'n-west', key)).toBe('10.112.9.9');
    set.apply('north', [recordedImport('web', '10.112.8.8', 3)]);
    expect(vip(set, 'n-west', key)).toBe('10.112.8.8');
  });

  test('two imports with one address on record: the younger waits for another', async () => {
    const set = await started(true);
    set.apply('east', [service('web'), service('api'), exported('web'), exported('api')]);
    set.apply('east', [recordedImport('web', '10.112.9.9', 7), recordedImport('api', '10.112.9.9', 8)]);
    expect(vip(set, 'n-west', key)).toBe('10.112.9.9');
    expect(vip(set, 'n-west', 'default/api.clusterset:80/TCP')).toBeUndefined();
    expect(set.rejected()[0]?.reason).toContain('has the clusterset IP of default/web on record');
    set.apply('east', [gone('ServiceImport', 'web')]);
    expect(vip(set, 'n-west', 'default/api.clusterset:80/TCP')).toBe('10.112.9.9');
  });

  test('a record that somebody deletes takes no address away', async () => {
    const set = await started(true);
    set.apply('east', [service('web'), exported('web'), recordedImport('web', '10.112.9.9')]);
    set.apply('east', [gone('ServiceImport', 'web')]);
    expect(vip(set, 'n-west', key)).toBe('10.112.9.9');
    // But another import that has it on record by then keeps it.
    set.apply('east', [service('api'), exported('api'), recordedImport('api', '10.112.9.9')]);
    set.apply('east', [slice('web', ['10.240.0.1'])]);
    expect(vip(set, 'n-west', 'default/api.clusterset:80/TCP')).toBe('10.112.9.9');
    expect(vip(set, 'n-west', key)).toBeUndefined();
  });

  test('an address outside --clusterset-cidr is another implementation’s', async () => {
    const set = await started(true);
    set.apply('east', [service('web'), exported('web'), recordedImport('web', '243.0.0.1')]);
    expect(vip(set, 'n-west', key)).toBeUndefined();
  });
});
