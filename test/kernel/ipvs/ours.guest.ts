import { execFileSync } from 'node:child_process';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, emptyRuleSet } from '@octoplane/model/rule-set.ts';
import { driftOf } from '@octoplane/node/reconcile/drift.ts';
import { arbitraryEntry } from '@octoplane/node/testing/arbitrary.ts';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { changeOf, entryOf, NodeLab } from './on-node.ts';

const vips = { IPv4: '10.96.0.10', IPv6: 'fd00:96::10' };
const run = (program: string, ...args: string[]) => execFileSync(program, args, { encoding: 'utf8' });

describe('on a node', () => {
  let node: NodeLab;
  beforeAll(async () => {
    node = await NodeLab.create();
    await node.driver.dump();
  });
  afterAll(() => node[Symbol.asyncDispose]());

  const endpoint = (pod: string, family: 'IPv4' | 'IPv6' = 'IPv4') => `${node.lab.place(pod).addresses[family]}:8080`;

  it("a frontend that is another program's is refused by name, and nothing of the change set stays", async () => {
    run('ipvsadm', '-A', '-t', '10.96.0.20:80', '-s', 'wlc');
    run('ipvsadm', '-a', '-t', '10.96.0.20:80', '-r', '192.0.2.1:80', '-m');
    const before = run('ipvsadm', '-Sn');
    const good = entryOf('default/good:80/TCP', { clusterIps: ['10.96.0.21'] }, [endpoint('pod-1a')]);
    const bad = entryOf('default/bad:80/TCP', { clusterIps: ['10.96.0.20'] }, [endpoint('pod-1a')]);
    const failure = await node.driver.apply([changeOf(null, good), changeOf(null, bad)]).then(
      () => null,
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({ name: 'DriverError', torn: false, refusals: [{ key: bad.key, reason: 'kernel' }] });
    expect(await node.driver.dump()).toEqual(emptyRuleSet);
    expect(run('ipvsadm', '-Sn')).toBe(before);
    await node.driver.prune(emptyRuleSet);
    expect(run('ipvsadm', '-Sn')).toBe(before);
    run('ipvsadm', '-D', '-t', '10.96.0.20:80');
  });

  it.each(['IPv4', 'IPv6'] as const)('pings are rejected or dropped when that is asked for: %s', async (family) => {
    const entry = entryOf('default/web:80/TCP', { clusterIps: [vips[family]] }, [endpoint('pod-1a', family)]);
    for (const icmp of ['reject', 'drop', 'reply'] as const) {
      const driver = await node.restart({ icmp });
      const found = await driver.dump();
      await driver.apply(driftOf(driver, found, new Map([[entry.key, entry]])));
      await driver.prune(new Map([[entry.key, entry]]));
      const wanted = { reject: { t: 'unreachable' }, drop: { t: 'timedOut' }, reply: { t: 'replied' } }[icmp];
      for (const client of ['pod-1b', 'node-1', 'outside'])
        expect(await node.lab.ping(client, vips[family], 700), `${icmp} ${client}`).toMatchObject(wanted);
    }
    await node.apply(changeOf(entry, null));
  });

  it.each(['IPv4', 'IPv6'] as const)('SCTP is balanced: %s', async (family) => {
    const pods = ['pod-1a', 'pod-2a'];
    for (const pod of pods) await node.lab.serve(pod, family, 8080, 'SCTP');
    const spec = { clusterIps: [vips[family]], nodePort: 30_090 };
    const entry = entryOf(
      'default/sctp:80/SCTP',
      spec,
      pods.map((pod) => endpoint(pod, family)),
    );
    await node.apply(changeOf(null, entry));
    const reach = { transport: 'SCTP', until: pods, atLeast: 4, atMost: 20 } as const;
    const inside = await node.lab.dialMany('pod-1b', vips[family], 80, reach);
    expect([inside.failures, Object.keys(inside.answers).sort()]).toEqual([[], pods]);
    const outside = await node.lab.dialMany('outside', node.lab.place('node-1').addresses[family], 30_090, reach);
    expect([outside.failures, Object.keys(outside.answers).sort()]).toEqual([[], pods]);
    await node.lab.stopServing();
    await node.apply(changeOf(entry, null));
  });

  it('node ports follow the addresses of the node', async () => {
    await node.lab.serve('pod-1a', 'IPv4', 8080);
    const entry = entryOf('default/web:80/TCP', { clusterIps: [vips.IPv4], nodePort: 30_080 }, [endpoint('pod-1a')]);
    const wanted = new Map([[entry.key, entry]]);
    await node.apply(changeOf(null, entry));
    const { driver } = node;
    const told = Promise.withResolvers<string>();
    const stop = new AbortController();
    driver.watch(told.resolve, stop.signal);
    run('ip', 'addr', 'add', '172.18.0.77/32', 'dev', 'eth0');
    expect(await told.promise).toContain('address');
    stop.abort();
    const resync = async () => {
      const drift = driftOf(driver, await driver.dump(), wanted);
      await driver.apply(drift);
      expect(await driver.readBack(drift)).toEqual([]);
      return [drift.length, await driver.prune(wanted)];
    };
    expect((await resync())[0]).toBe(1);
    expect(await resync()).toEqual([0, 0]);
    expect(await node.lab.dial('node-1', '172.18.0.77', 30_080)).toMatchObject({ t: 'answered', by: 'pod-1a' });
    run('ip', 'addr', 'del', '172.18.0.77/32', 'dev', 'eth0');
    await resync();
    // The connection of before is in TIME_WAIT, and its endpoint drains.
    expect(run('ipvsadm', '-Sn')).not.toMatch(/172\.18\.0\.77:30080 .* -w 1/);
    expect(await resync()).toEqual([0, 0]);
    await node.apply(changeOf(entry, null));
  });

  it('another scheduler takes over what the first one had', async () => {
    const entry = entryOf('default/web:80/TCP', { clusterIps: [vips.IPv4] }, [endpoint('pod-1a'), endpoint('pod-2a')]);
    await node.apply(changeOf(null, entry));
    for (const scheduler of ['mh', 'wlc', 'sh', 'rr']) {
      const driver = await node.restart({ ipvs: { scheduler } });
      const wanted = new Map([[entry.key, entry]]);
      await driver.apply(driftOf(driver, await driver.dump(), wanted));
      expect(await driver.prune(wanted)).toBe(0);
      expect(await driver.dump()).toEqual(new Map([[entry.key, driver.visible(entry)]]));
      expect(run('ipvsadm', '-Ln')).toContain(`10.96.0.10:80 ${scheduler}`);
      await node.lab.dial('pod-1b', vips.IPv4, 80);
    }
    await node.apply(changeOf(entry, null));
  });

  it('2,000 random changes end with what the model says, and a restart in between changes nothing', async () => {
    const steps = 2_000;
    const entries = fc.sample(
      fc.nat(5).chain((index) => fc.tuple(arbitraryEntry(index), fc.boolean())),
      { numRuns: steps, seed: 52 },
    );
    const held = new Map<ServicePortKey, Entry>();
    for (const [step, [entry, isRemoval]] of entries.entries()) {
      const change: EntryChange = {
        key: entry.key,
        before: held.get(entry.key) ?? null,
        after: isRemoval ? null : entry,
      };
      if (change.before === null && change.after === null) continue;
      await node.apply(change);
      if (isRemoval) held.delete(entry.key);
      else held.set(entry.key, entry);
      if (step % 400 !== 399) continue;
      const driver = await node.restart();
      expect(driftOf(driver, await driver.dump(), held)).toEqual([]);
      expect(await driver.prune(held)).toBe(0);
    }
    await node.apply(...[...held.values()].map((entry) => changeOf(entry, null)));
    await node.driver.dump();
    await node.driver.prune(emptyRuleSet);
    expect(run('ipvsadm', '-Sn')).not.toContain(' -w 1');
    expect(run('ipset', 'list')).not.toContain('default/');
  });
});
