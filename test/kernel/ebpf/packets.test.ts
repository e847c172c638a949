import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Lab } from '../../support/lab/lab.ts';
import { EbpfNode, endpoint, entry, everywhere, here, mountBpffs } from './node.ts';

/** A client outside the cluster: every packet passes the programs of a node, none of whose sockets is the client's. */
describe('packets', () => {
  let lab: Lab;
  let bpffs: ReturnType<typeof mountBpffs>;
  const nodes: EbpfNode[] = [];
  beforeAll(async () => {
    lab = await Lab.create({ nodes: 2, podsPerNode: 2 });
    bpffs = mountBpffs(lab);
    for (const name of ['node-1', 'node-2']) {
      const node = new EbpfNode(name, { lab, bpffs: bpffs.path });
      await node.open();
      nodes.push(node);
    }
    for (const place of [...all, 'node-1', 'node-2'])
      for (const family of families) {
        await lab.serve(place, family, 8080, 'TCP');
        await lab.serve(place, family, 8080, 'UDP');
      }
  });
  afterAll(async () => {
    for (const node of nodes) await node[Symbol.asyncDispose]();
    bpffs[Symbol.dispose]();
    await lab[Symbol.asyncDispose]();
  });

  const families = ['IPv4', 'IPv6'] as const;
  const transports = ['TCP', 'UDP'] as const;
  const all = ['pod-1a', 'pod-1b', 'pod-2a', 'pod-2b'];
  /** Each node's view: LOCAL is a flag of its own endpoints. */
  const want = async (
    make: (
      at: (place: string, draining?: boolean) => ReturnType<typeof endpoint>,
      node: number,
    ) => ReturnType<typeof entry>,
  ) => {
    for (const [i, node] of nodes.entries()) {
      const n = i + 1;
      await node.want(
        make((place, draining = false) => {
          const local = place.startsWith(`pod-${n}`) || place === `node-${n}`;
          return endpoint(address(place), draining ? 8 : local ? here : everywhere);
        }, n),
      );
    }
  };
  let family: (typeof families)[number] = 'IPv4';
  const ip = (place: string) => lab.place(place).addresses[family];
  const address = (place: string) => (family === 'IPv4' ? `${ip(place)}:8080` : `[${ip(place)}]:8080`);

  describe.each(families)('%s', (current) => {
    const v4 = current === 'IPv4';
    const vip = v4 ? '10.96.0.10' : 'fd00:96::a';
    const external = v4 ? '198.51.100.7' : '2001:db8:51::7';
    const balanced = v4 ? '203.0.113.7' : '2001:db8:113::7';
    beforeAll(() => {
      family = current;
    });

    describe.each(transports)('%s', (transport) => {
      const options = { transport, timeoutMs: 3000 };
      const basic = {
        protocol: transport,
        clusterIps: [vip],
        externalIps: [external],
        loadBalancerIps: [balanced],
        nodePort: 30080,
      };

      it('spreads connections over all endpoints with a source of the node, wherever they are (P11)', async () => {
        await want((at) => entry('web', { ...basic, endpoints: all.map((place) => at(place)) }));
        for (const [to, port] of [
          [ip('node-1'), 30080],
          [ip('node-2'), 30080],
          [external, 80],
          [balanced, 80],
        ] as const) {
          const tally = await lab.dialMany('outside', to, port, { ...options, until: all, atLeast: 20, atMost: 200 });
          expect(tally.failures, `${to}:${port}`).toEqual([]);
          expect(Object.keys(tally.answers).sort()).toEqual(all);
          expect(tally.seenAs).toEqual([ip(to === ip('node-2') ? 'node-2' : 'node-1')]);
        }
      });

      it('keeps to local endpoints and the client address for the Local policy (P12)', async () => {
        await want((at) =>
          entry('web', { ...basic, externalPolicy: 'Local', endpoints: [at('pod-1a'), at('pod-1b')] }),
        );
        for (const [to, port] of [
          [ip('node-1'), 30080],
          [external, 80],
        ] as const) {
          const tally = await lab.dialMany('outside', to, port, {
            ...options,
            until: ['pod-1a', 'pod-1b'],
            atLeast: 10,
            atMost: 100,
          });
          expect(tally.failures).toEqual([]);
          expect(tally.seenAs).toEqual([ip('outside')]);
        }
        expect(await lab.dial('outside', ip('node-2'), 30080, { transport, timeoutMs: 300 })).toEqual({
          t: 'timedOut',
        });
      });

      it('reaches servers in the network of a node', async () => {
        await want((at) => entry('web', { ...basic, endpoints: [at('node-1'), at('node-2')] }));
        const until = ['node-1', 'node-2'];
        const tally = await lab.dialMany('outside', ip('node-1'), 30080, {
          ...options,
          until,
          atLeast: 10,
          atMost: 100,
        });
        expect(tally.failures).toEqual([]);
      });

      it('refuses at once without an endpoint (P14)', async () => {
        await want(() => entry('web', basic));
        for (const [to, port] of [
          [ip('node-1'), 30080],
          [external, 80],
          [vip, 80],
        ] as const)
          expect(await lab.dial('outside', to, port, { transport, connected: true, timeoutMs: 3000 })).toEqual({
            t: 'refused',
          });
      });

      it('admits clients within the source ranges to the load balancer address alone (P23)', async () => {
        const range = (text: string) => entry('web', { ...basic, sourceRanges: [text], endpoints: [] });
        const at = (place: string) => endpoint(address(place));
        const ranged = (text: string) => async () => {
          for (const node of nodes)
            await node.want({
              ...range(text),
              endpoints: [at('pod-2a')],
              spec: { ...range(text).spec, usableFamilies: 3 },
            });
        };
        await ranged(v4 ? '192.0.2.0/24' : '2001:db8:7::/64')();
        expect(await lab.dial('outside', balanced, 80, { transport, timeoutMs: 300 })).toEqual({ t: 'timedOut' });
        expect(await lab.dial('pod-1a', balanced, 80, { transport, timeoutMs: 300 })).toEqual({ t: 'timedOut' });
        // A UDP socket of the node itself is told that its datagram went nowhere (ENOBUFS), and waits to send it again.
        if (transport === 'TCP')
          expect(await lab.dial('node-1', balanced, 80, { transport, timeoutMs: 300 })).toEqual({ t: 'timedOut' });
        expect(await lab.dial('outside', external, 80, options)).toMatchObject({ t: 'answered' });
        expect(await lab.dial('outside', ip('node-1'), 30080, options)).toMatchObject({ t: 'answered' });
        await ranged(v4 ? '172.18.0.0/24' : 'fd00:18::/64')();
        expect(await lab.dial('outside', balanced, 80, options)).toMatchObject({ t: 'answered' });
        expect(await lab.dial('node-1', balanced, 80, options)).toMatchObject({ t: 'answered' });
        await ranged(v4 ? '10.244.1.0/24' : 'fd00:244:1::/64')();
        expect(await lab.dial('pod-1a', balanced, 80, options)).toMatchObject({ t: 'answered', by: 'pod-2a' });
      });

      it('keeps two services with one backend apart for one port of a client', async () => {
        const second = v4 ? '198.51.100.8' : '2001:db8:51::8';
        for (const policy of ['Cluster', 'Local'] as const) {
          const of = (name: string, to: string) =>
            entry(name, {
              protocol: transport,
              externalIps: [to],
              externalPolicy: policy,
              endpoints: [endpoint(address('pod-1a'), here)],
            });
          await nodes[0]?.want(of('one', external), of('two', second));
          const port = { ...options, bindPort: 20_000 + (policy === 'Local' ? 1 : 0) };
          await using first = await lab.open('outside', external, 80, port);
          expect(await first.ask()).toMatchObject({ t: 'answered', by: 'pod-1a' });
          if (transport === 'TCP') {
            await using other = await lab.open('outside', second, 80, port);
            expect(await other.ask()).toMatchObject({ t: 'answered', by: 'pod-1a' });
          }
          expect(await first.ask()).toMatchObject({ t: 'answered', by: 'pod-1a' });
        }
      });

      it('binds a client to an endpoint while affinity lasts (P21)', async () => {
        await want((at) =>
          entry('web', { ...basic, affinityTimeoutSeconds: 600, endpoints: all.map((place) => at(place)) }),
        );
        const tally = await lab.dialMany('outside', external, 80, { ...options, until: [], atLeast: 20, atMost: 20 });
        expect(Object.keys(tally.answers)).toHaveLength(1);
        // The choice is a hash of the client, so the other node makes the same.
        const other = await lab.dial('outside', ip('node-2'), 30080, options);
        if (transport === 'UDP') expect(other).toMatchObject({ t: 'answered' });
      });
    });

    it('moves UDP flows when their endpoint goes, and leaves TCP connections alone (P30)', async () => {
      const flow = (transport: 'TCP' | 'UDP') => lab.open('outside', external, 80, { transport, bindPort: 21_000 });
      const both = (places: string[]) => async () => {
        for (const node of nodes)
          await node.want(
            ...transports.map((protocol) =>
              entry('web', {
                protocol,
                externalIps: [external],
                endpoints: places.map((place) => endpoint(address(place))),
              }),
            ),
          );
      };
      await both(['pod-2a'])();
      await using udp = await flow('UDP');
      await using tcp = await flow('TCP');
      expect(await udp.ask()).toMatchObject({ by: 'pod-2a' });
      expect(await tcp.ask()).toMatchObject({ by: 'pod-2a' });
      await both(['pod-1b'])();
      expect(await udp.ask()).toMatchObject({ by: 'pod-1b' });
      expect(await tcp.ask()).toMatchObject({ by: 'pod-2a' });
    });

    it('answers pings of service addresses while there is an endpoint', async () => {
      await want((at) => entry('web', { clusterIps: [vip], externalIps: [external], endpoints: [at('pod-2a')] }));
      for (const from of ['outside', 'pod-1a', 'node-1'])
        for (const to of [vip, external])
          expect(await lab.ping(from, to), `${from} to ${to}`).toEqual({ t: 'replied' });
      await want(() => entry('web', { clusterIps: [vip], externalIps: [external] }));
      for (const from of ['outside', 'pod-1a', 'node-1'])
        expect(await lab.ping(from, vip), from).toEqual({ t: 'refused' });
    });

    it('passes fragments of large datagrams', async () => {
      await want((at) =>
        entry('web', { protocol: 'UDP', clusterIps: [vip], externalIps: [external], endpoints: [at('pod-2a')] }),
      );
      expect(await lab.dial('outside', external, 80, { transport: 'UDP', bytes: 6000, timeoutMs: 3000 })).toMatchObject(
        { by: 'pod-2a' },
      );
    });

    it('passes on the refusal of a backend', async () => {
      const closed = { ...endpoint(address('pod-2a')), port: 9 };
      for (const node of nodes)
        await node.want(entry('web', { protocol: 'UDP', externalIps: [external], endpoints: [closed] }));
      expect(await lab.dial('outside', external, 80, { transport: 'UDP', connected: true, timeoutMs: 3000 })).toEqual({
        t: 'refused',
      });
      for (const node of nodes)
        await node.want(
          entry('web', {
            protocol: 'UDP',
            externalIps: [external],
            externalPolicy: 'Local',
            endpoints: [{ ...endpoint(address('pod-1a'), here), port: 9 }],
          }),
        );
      expect(await lab.dial('outside', external, 80, { transport: 'UDP', connected: true, timeoutMs: 3000 })).toEqual({
        t: 'refused',
      });
    });
  });

  it('all without netfilter, and without a socket that listens', () => {
    for (const name of ['node-1', 'node-2']) {
      const shown = (...argv: string[]) =>
        lab.within(name, () => execFileSync(argv[0] ?? '', argv.slice(1), { encoding: 'utf8' }));
      expect(shown('nft', 'list', 'ruleset')).toBe('');
      expect(shown('iptables-save')).toBe('');
      expect(shown('ip6tables-save')).toBe('');
      expect(shown('ss', '-Hlntu', 'sport = :30080')).toBe('');
    }
  });
});
