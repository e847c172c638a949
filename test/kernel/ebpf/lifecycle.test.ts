import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { applyChanges, type EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, entriesEqual } from '@octoplane/model/rule-set.ts';
import { DriverError } from '@octoplane/node/drivers/driver.ts';
import { pinsUnder } from '@octoplane/node/drivers/ebpf/pins.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Lab } from '../../support/lab/lab.ts';
import { generator } from './generator.ts';
import { EbpfNode, endpoint, entry, here, keyOf, mountBpffs } from './node.ts';

/** The driver as a guest of the kernel: taking over, giving back, refusing. */
describe('lifecycle', () => {
  let lab: Lab;
  let bpffs: ReturnType<typeof mountBpffs>;
  let node: EbpfNode;
  beforeAll(async () => {
    lab = await Lab.create({ nodes: 1, podsPerNode: 2, families: ['IPv4'] });
    bpffs = mountBpffs(lab);
    await lab.serve('pod-1a', 'IPv4', 8080);
    await lab.serve('pod-1b', 'IPv4', 8080);
  });
  afterAll(async () => {
    bpffs[Symbol.dispose]();
    await lab[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    node = new EbpfNode('node-1', { lab, bpffs: bpffs.path });
    await node.open();
    return async () => {
      await node.driver.cleanup();
      await node.close();
    };
  });

  const vip = '10.96.0.10';
  const pod1b = endpoint('10.244.1.11:8080');
  const web = () => entry('web', { clusterIps: [vip], endpoints: [pod1b] });
  const rich = () =>
    entry('rich', {
      clusterIps: ['10.96.0.11', 'fd00:96::b'],
      externalIps: ['198.51.100.1'],
      loadBalancerIps: ['2001:db8:113::1', '203.0.113.1'],
      nodePort: 30001,
      internalPolicy: 'Local',
      externalPolicy: 'Local',
      affinityTimeoutSeconds: 600,
      sourceRanges: ['192.0.2.0/24', '2001:db8::/32'],
      usableFamilies: 3,
      endpoints: [endpoint('10.244.1.11:8080', here), endpoint('10.244.2.1:8080'), endpoint('[fd00:244:2::1]:8080', 8)],
    });

  it('reads back as a rule set what it was asked for', async () => {
    await node.want(web(), rich());
    const dump = await node.driver.dump();
    expect([...dump.values()].sort((a, b) => (a.key < b.key ? -1 : 1))).toEqual([rich(), web()]);
  });

  it('forwards while no daemon is there, and the next one takes over without touching anything', async () => {
    await node.want(web(), rich());
    await node.close();
    expect(await lab.dial('pod-1a', vip, 80)).toMatchObject({ t: 'answered', by: 'pod-1b' });
    await node.open();
    const dump = await node.driver.dump();
    expect(dump.get(web().key)).toEqual(web());
    expect(dump.get(rich().key)).toEqual(rich());
    expect(await node.prune()).toBe(0);
  });

  it('notices pins that somebody removes, and puts them back', async () => {
    await node.want(web());
    const disturbed = Promise.withResolvers<string>();
    const ended = new AbortController();
    node.driver.watch(disturbed.resolve, ended.signal);
    rmSync(join(node.options.bpfFsPath, 'octoplane/links/connect4'));
    expect(await disturbed.promise).toContain('connect4');
    ended.abort();
    expect(await node.prune()).toBe(1);
    expect(existsSync(join(node.options.bpfFsPath, 'octoplane/links/connect4'))).toBe(true);
    expect(await lab.dial('pod-1a', vip, 80)).toMatchObject({ by: 'pod-1b' });
  });

  it('finds what somebody else changed in the maps, and repairs it', async () => {
    await node.want(web(), rich());
    const map = join(pinsUnder(node.options.bpfFsPath).maps, 'frontends');
    const keys = JSON.parse(execFileSync('bpftool', ['map', 'dump', 'pinned', map, '-j'], { encoding: 'utf8' })) as {
      key: string[];
    }[];
    for (const { key } of keys)
      execFileSync('bpftool', ['map', 'delete', 'pinned', map, 'key', 'hex', ...key.map((byte) => byte.slice(2))]);
    const change = (after: Entry): EntryChange => ({ key: after.key, before: after, after });
    expect(await node.driver.readBack([change(web())])).toEqual([
      { key: web().key, message: `frontend ${vip} port 80 is missing` },
    ]);
    const dump = await node.driver.dump();
    expect(dump.get(web().key)?.spec.clusterIps).toEqual([]);
    await node.change([{ key: web().key, before: dump.get(web().key) ?? null, after: web() }]);
    expect(await lab.dial('pod-1a', vip, 80)).toMatchObject({ by: 'pod-1b' });
  });

  it('leaves nothing behind after --cleanup', async () => {
    await node.want(web());
    await node.driver.cleanup();
    expect(readdirSync(node.options.bpfFsPath)).toEqual([]);
    expect(await lab.dial('pod-1a', vip, 80, { timeoutMs: 300 })).toEqual({ t: 'timedOut' });
  });

  it('removes what nobody wants any more, and says how much', async () => {
    await node.want(web(), rich());
    await node.close();
    await node.open();
    expect(await lab.within('node-1', () => node.driver.prune(new Map([[web().key, web()]])))).toBe(1);
    expect([...(await node.driver.dump()).keys()]).toEqual([web().key]);
  });

  it('gives an address from one service port to another within one change set', async () => {
    await node.want(web());
    await node.want({ ...web(), key: keyOf('renamed') });
    expect([...(await node.driver.dump()).keys()]).toEqual([keyOf('renamed')]);
    expect(await lab.dial('pod-1a', vip, 80)).toMatchObject({ by: 'pod-1b' });
  });

  it('names the entries that it refuses, and changes nothing', async () => {
    await node.want(web());
    const sound = entry('sound', { clusterIps: ['10.96.0.12'] });
    const large = { ...entry('x'.repeat(160), { clusterIps: ['10.96.0.13'] }) };
    const clash = entry('clash', { clusterIps: [vip] });
    const changes = [sound, large, clash].map((after) => ({ key: after.key, before: null, after }));
    expect(node.driver.check(changes).map(({ key, reason }) => [key, reason])).toEqual([
      [large.key, 'capacity'],
      [clash.key, 'invalid'],
    ]);
    await expect(node.driver.apply(changes)).rejects.toThrow(DriverError);
    expect([...(await node.driver.dump()).keys()]).toEqual([web().key]);
  });

  it('ends random churn with exactly the rule set that was asked for', async () => {
    const random = generator(7);
    const model = new Map<ServicePortKey, Entry>();
    for (let step = 0; step < 500; step++) {
      const changes = new Map<ServicePortKey, EntryChange>();
      for (let i = 0; i < 1 + (random() % 4); i++) {
        const n = random() % 20;
        const key = keyOf(`svc-${n}`);
        const after = random() % 4 === 0 ? null : randomEntry(n, random);
        if (after !== null || model.has(key)) changes.set(key, { key, before: model.get(key) ?? null, after });
      }
      await node.change([...changes.values()]);
      applyChanges(model, changes.values());
      if (step % 100 === 0) {
        await node.close();
        await node.open();
      }
    }
    const dump = await node.driver.dump();
    expect([...dump.keys()].sort()).toEqual([...model.keys()].sort());
    for (const [key, wanted] of model) expect(dump.get(key), key).toSatisfy((entry) => entriesEqual(entry, wanted));
  });
});

describe('capacity', () => {
  it('names the entry that does not fit, and keeps what there is', async () => {
    await using lab = await Lab.create({ nodes: 1, podsPerNode: 1, families: ['IPv4'] });
    using bpffs = mountBpffs(lab);
    const capacity = { frontends: 4, backends: 16, services: 3, addresses: 64, ranges: 2 };
    await using node = new EbpfNode('node-1', { lab, bpffs: bpffs.path, capacity });
    await node.open();
    const service = (n: number, endpoints: number, more = {}) =>
      entry(`svc-${n}`, {
        clusterIps: [`10.96.0.${n}`],
        endpoints: Array.from({ length: endpoints }, (_, i) => endpoint(`10.244.9.${i + 1}:80`)),
        ...more,
      });
    const refused = (after: Entry) =>
      node.driver.check([{ key: after.key, before: null, after }]).map(({ message }) => message);
    await node.want(service(1, 4), service(2, 2));
    expect(refused(service(3, 9))).toEqual(['no room for its 9 endpoints among 16 (6 are taken)']);
    expect(refused(service(3, 8))).toEqual([]);
    expect(refused(service(3, 1, { externalIps: ['198.51.100.1', '198.51.100.2'] }))).toEqual([
      'the map of frontends is full at 4 elements',
    ]);
    expect(refused(service(3, 1, { sourceRanges: ['192.0.2.0/26', '192.0.2.64/26', '192.0.2.128/26'] }))).toEqual([
      'the map of ranges is full at 2 elements',
    ]);
    await node.want(service(1, 4), service(2, 2), service(3, 1));
    expect(refused(service(4, 0))).toEqual(['the map of services is full at 3 elements']);
    expect((await node.driver.dump()).size).toBe(3);
  });
});

function randomEntry(n: number, random: () => number): Entry {
  const endpoints = Array.from({ length: 12 }, (_, i) =>
    endpoint(i % 3 ? `10.244.1.${i}:8080` : `[fd00:244:1::${i + 1}]:8080`, [1, 2, 3, 8][random() % 4]),
  ).filter(() => random() % 2);
  return entry(`svc-${n}`, {
    clusterIps: [`10.96.1.${n}`, `fd00:96::${n}`].slice(0, 1 + (random() % 2)),
    externalIps: random() % 2 ? [`198.51.100.${n}`] : [],
    loadBalancerIps: random() % 2 ? [`203.0.113.${n}`] : [],
    nodePort: random() % 2 ? 30_000 + n : 0,
    internalPolicy: random() % 2 ? 'Local' : 'Cluster',
    externalPolicy: random() % 2 ? 'Local' : 'Cluster',
    affinityTimeoutSeconds: random() % 2 ? 60 : 0,
    sourceRanges: random() % 2 ? ['192.0.2.0/24'] : [],
    usableFamilies: random() % 4,
    endpoints,
  });
}
