import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cgroupRoot, reapDeadLabs } from '../support/lab/build.ts';
import { Lab } from '../support/lab/lab.ts';
import { balancer } from '../support/lab/plan.ts';

describe('the lab', () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await Lab.create({ nodes: 2, podsPerNode: 2 });
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  const families = ['IPv4', 'IPv6'] as const;
  const transports = ['TCP', 'UDP', 'SCTP'] as const;

  describe.each(families)('%s', (family) => {
    const ip = (place: string) => lab.place(place).addresses[family];

    it.each(transports)('carries %s between any two places', async (transport) => {
      const places = ['pod-1a', 'pod-1b', 'pod-2a', 'node-1', 'node-2', 'outside'];
      for (const place of places) await lab.serve(place, family, 7000, transport);
      for (const from of places)
        for (const to of places.filter((each) => each !== from || transport !== 'SCTP'))
          expect(await lab.dial(from, ip(to), 7000, { transport }), `${from} to ${to}`).toMatchObject({
            t: 'answered',
            by: to,
            seenAs: { ip: ip(from) },
          });
    });

    it.each(transports)('is refused by a port that nobody listens on: %s', async (transport) => {
      if (transport === 'SCTP') await lab.stopServing();
      const outcome = await lab.dial('pod-1a', ip('pod-2b'), 9, { transport });
      // A host without SCTP has no ports to refuse: it says that it lacks the protocol.
      if (transport === 'SCTP') expect(outcome).toMatchObject({ t: 'unreachable' });
      else expect(outcome).toEqual({ t: 'refused' });
    });

    it('tells silence from refusal', async () => {
      drop('node-2', `${family === 'IPv4' ? 'ip' : 'ip6'} daddr ${ip('pod-2a')} drop`);
      for (const transport of transports)
        expect(await lab.dial('pod-1a', ip('pod-2a'), 7000, { transport, timeoutMs: 200 })).toEqual({ t: 'timedOut' });
      expect(await lab.ping('pod-1a', ip('pod-2a'), 200)).toEqual({ t: 'timedOut' });
      nft('node-2', 'flush ruleset');
    });

    it('pings', async () => {
      expect(await lab.ping('pod-1a', ip('pod-2b'))).toEqual({ t: 'replied' });
      expect(await lab.ping('outside', ip('node-2'))).toEqual({ t: 'replied' });
    });

    it('follows translation: a connection to an address that nobody has', async () => {
      await lab.serve('pod-1b', family, 8080);
      const vip = family === 'IPv4' ? '10.96.0.10' : 'fd00:96::a';
      translate(family, vip, ip('pod-1b'));
      for (const from of ['pod-1a', 'node-1', 'outside'])
        expect(await lab.dial(from, vip, 80)).toMatchObject({ t: 'answered', by: 'pod-1b', seenAs: { ip: ip(from) } });
      nft('node-1', 'flush ruleset');
    });

    it('reaches the balancer of the provider by the default route', async () => {
      await lab.serveOn({ at: 'outside', ip: balancer[family], port: 80, transport: 'TCP', as: 'balancer' });
      expect(await lab.dial('pod-1a', balancer[family], 80)).toMatchObject({ t: 'answered', by: 'balancer' });
    });

    it('keeps flows open and notices their end', async () => {
      await lab.serve('pod-2b', family, 7001);
      await using flow = await lab.open('pod-1a', ip('pod-2b'), 7001);
      expect(await flow.ask()).toMatchObject({ t: 'answered', by: 'pod-2b' });
      expect(await flow.ask()).toMatchObject({ t: 'answered', by: 'pod-2b' });
      await lab.stopServing();
      expect(await flow.ask()).toEqual({ t: 'reset' });
    });

    it('counts what fails under load, and where', async () => {
      await lab.serve('pod-2b', family, 7002);
      const load = await lab.load('pod-1a', ip('pod-2b'), 7002, { fresh: 2, kept: 2 });
      await load.more(200);
      expect(await load.peek()).toMatchObject({ failures: 0 });
      await lab.stopServing();
      await load.more(40);
      const report = await load.stop();
      expect(report.firstFailures).toHaveLength(10);
      expect(Object.keys(report.answers)).toEqual(['pod-2b']);
    });
  });

  it('forges a segment, which arrives unless somebody drops what conntrack finds invalid', async () => {
    await lab.serve('pod-2a', 'IPv4', 8080);
    const forged = async () => {
      await using flow = await lab.open('pod-1a', '10.96.0.10', 80);
      const outcome = await flow.ask();
      if (outcome.t !== 'answered') throw new Error(outcome.t);
      return lab.forgedArrives('pod-2a', 8080, 'pod-1a', outcome.seenAs.port, 200);
    };
    translate('IPv4', '10.96.0.10', '10.244.2.10');
    expect(await forged()).toBe(true);
    drop('node-1', 'ct state invalid drop');
    expect(await forged()).toBe(false);
    nft('node-1', 'flush ruleset');
  });

  it('sends the outside through the node of choice', async () => {
    await lab.serve('pod-2a', 'IPv4', 8080);
    lab.routeOutsideThrough('node-2');
    translate('IPv4', '203.0.113.7', '10.244.2.10', 'node-2');
    expect(await lab.dial('outside', '203.0.113.7', 80)).toMatchObject({
      t: 'answered',
      seenAs: { ip: '172.18.0.250' },
    });
    lab.routeOutsideThrough('node-1');
    expect(await lab.dial('outside', '203.0.113.7', 80, { timeoutMs: 200 })).toMatchObject({ t: 'timedOut' });
    nft('node-2', 'flush ruleset');
  });

  const nft = (place: string, text: string) => {
    const { status, stderr } = lab.within(place, () =>
      spawnSync('nft', ['-f', '-'], { input: text, encoding: 'utf8' }),
    );
    expect(stderr).toBe('');
    expect(status).toBe(0);
  };
  const drop = (place: string, rule: string) =>
    nft(place, `table inet lab { chain c { type filter hook forward priority 0; ${rule}; }; }`);
  const translate = (family: 'IPv4' | 'IPv6', vip: string, to: string, place = 'node-1') => {
    const ip = family === 'IPv4' ? 'ip' : 'ip6';
    const target = family === 'IPv4' ? `${to}:8080` : `[${to}]:8080`;
    const rule = `${ip} daddr ${vip} tcp dport 80 dnat to ${target}`;
    nft(
      place,
      `table ${ip} lab {
        chain pre { type nat hook prerouting priority -100; ${rule}; }
        chain out { type nat hook output priority -100; ${rule}; }
      }`,
    );
  };
});

describe('a lab that ends', () => {
  it('leaves nothing behind', async () => {
    let prefix: string;
    {
      await using lab = await Lab.create({ nodes: 1, podsPerNode: 1 });
      prefix = lab.plan.prefix;
      expect(left(prefix)).not.toEqual([]);
    }
    expect(left(prefix)).toEqual([]);
  });

  it('cleans up after one whose process was killed', async () => {
    const module = new URL('../support/lab/lab.ts', import.meta.url).href;
    const program = `const { Lab } = await import('${module}');
      const lab = await Lab.create({ nodes: 1, podsPerNode: 1 });
      console.log(lab.plan.prefix);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    const prefix = line.toString().trim();
    expect(left(prefix)).not.toEqual([]);
    await reapDeadLabs();
    expect(left(prefix)).toEqual([]);
  });

  const left = (prefix: string) =>
    ['/run/netns', cgroupRoot(), tmpdir()].flatMap((dir) => readdirSync(dir)).filter((name) => name.startsWith(prefix));
});
