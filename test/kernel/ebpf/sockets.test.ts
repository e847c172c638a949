import { execFileSync, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { writeEndpoint } from '@octoplane/node/drivers/ebpf/layout.ts';
import { libbpf } from '@octoplane/node/drivers/ebpf/libbpf.ts';
import { pinsUnder } from '@octoplane/node/drivers/ebpf/pins.ts';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { netnsPath } from '../../support/lab/build.ts';
import { Lab } from '../../support/lab/lab.ts';
import { bindSocket, ipProtocols, openSocket, socketTypes } from '../../support/lab/libc.ts';
import { EbpfNode, endpoint, entry, here, keyOf, mountBpffs } from './node.ts';

/** Clients on the node: pods and the node itself. Nothing is on the packet path. */
describe('sockets', () => {
  let lab: Lab;
  let node: EbpfNode;
  let bpffs: ReturnType<typeof mountBpffs>;
  beforeAll(async () => {
    lab = await Lab.create({ nodes: 2, podsPerNode: 2 });
    bpffs = mountBpffs(lab);
    node = new EbpfNode('node-1', { lab, bpffs: bpffs.path });
    await node.open();
    for (const place of ['pod-1a', 'pod-1b', 'pod-2a', 'pod-2b'])
      for (const family of families) {
        await lab.serve(place, family, 8080, 'TCP');
        await lab.serve(place, family, 8080, 'UDP');
      }
  });
  afterAll(async () => {
    await node[Symbol.asyncDispose]();
    bpffs[Symbol.dispose]();
    await lab[Symbol.asyncDispose]();
  });

  const families = ['IPv4', 'IPv6'] as const;
  const transports = ['TCP', 'UDP'] as const;
  const all = ['pod-1a', 'pod-1b', 'pod-2a', 'pod-2b'];

  /** A process of its own, in a pod and in the cgroup of the node. */
  const runIn = (place: string, script: string, argument: string): string =>
    lab.within(place, () =>
      execFileSync(
        'sh',
        [
          '-c',
          'echo $$ > "$1/cgroup.procs"; exec "$2" -e "$3" "$4"',
          'sh',
          lab.cgroupOf('node-1'),
          process.execPath,
          script,
          argument,
        ],
        { encoding: 'utf8' },
      ),
    );

  /** A process with a connected socket that has had an answer; `end` is the error that it gets one day. */
  async function connectedUdp(place: string, ip: string, family: string) {
    const script = `const s = dgram.createSocket(process.argv[2]);
      s.on('error', (error) => { console.log(error.code); process.exit(); });
      s.on('message', () => console.log('answered'));
      s.connect(80, process.argv[1], () => s.send('x'));`;
    const shell = 'echo $$ > "$1/cgroup.procs"; exec "$2" -e "$3" "$4" "$5"';
    const argv = ['sh', lab.cgroupOf('node-1'), process.execPath, script, ip, family === 'IPv4' ? 'udp4' : 'udp6'];
    const child = lab.within(place, () =>
      spawn('sh', ['-c', shell, ...argv], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    expect((await lines.next()).value).toBe('answered');
    let over = false;
    const end = lines.next().then(({ value }) => {
      over = true;
      return value;
    });
    return { end, ended: () => over };
  }

  describe.each(families)('%s', (family) => {
    const vip = family === 'IPv4' ? '10.96.0.10' : 'fd00:96::a';
    const external = family === 'IPv4' ? '198.51.100.7' : '2001:db8:51::7';
    const ip = (place: string) => lab.place(place).addresses[family];
    const at = (place: string, flags?: number) =>
      endpoint(family === 'IPv4' ? `${ip(place)}:8080` : `[${ip(place)}]:8080`, flags);

    describe.each(transports)('%s', (protocol) => {
      it('spreads connections from pods and from the node over all endpoints, which see the client', async () => {
        await node.want(entry('web', { protocol, clusterIps: [vip], endpoints: all.map((place) => at(place)) }));
        for (const from of ['pod-1a', 'node-1']) {
          const tally = await lab.dialMany(from, vip, 80, {
            transport: protocol,
            until: all,
            atLeast: 20,
            atMost: 200,
          });
          expect(tally.failures).toEqual([]);
          expect(Object.keys(tally.answers).sort()).toEqual(all);
          expect(tally.seenAs).toContain(ip(from));
        }
      });

      it('shows a connected UDP or TCP client nothing but the service', async () => {
        await node.want(entry('web', { protocol, clusterIps: [vip], endpoints: [at('pod-2a')] }));
        expect(await lab.dial('pod-1a', vip, 80, { transport: protocol, connected: true })).toMatchObject({
          t: 'answered',
          by: 'pod-2a',
        });
      });

      it('refuses at once without an endpoint, and again serves when there is one', async () => {
        await node.want(entry('web', { protocol, clusterIps: [vip], externalIps: [external], nodePort: 30080 }));
        for (const [to, port] of [[vip, 80] as const, [external, 80] as const, [ip('node-1'), 30080] as const])
          for (const connected of [true, false])
            expect(await lab.dial('pod-1a', to, port, { transport: protocol, connected })).toEqual({ t: 'refused' });
        await node.want(entry('web', { protocol, clusterIps: [vip], endpoints: [at('pod-1b')] }));
        expect(await lab.dial('pod-1a', vip, 80, { transport: protocol })).toMatchObject({ by: 'pod-1b' });
      });

      it('is silent where only other nodes have an endpoint for the Local policy', async () => {
        await node.want(
          entry('web', {
            protocol,
            clusterIps: [vip],
            internalPolicy: 'Local',
            usableFamilies: 3,
            endpoints: [at('pod-2a')],
          }),
        );
        expect(await lab.dial('pod-1a', vip, 80, { transport: protocol, timeoutMs: 300 })).toEqual({ t: 'timedOut' });
      });

      it('keeps to local endpoints for the Local policy, and to all of them for outside addresses (P6)', async () => {
        await node.want(
          entry('web', {
            protocol,
            clusterIps: [vip],
            externalIps: [external],
            internalPolicy: 'Local',
            externalPolicy: 'Local',
            endpoints: [at('pod-1b', here), at('pod-2a'), at('pod-2b')],
          }),
        );
        const local = await lab.dialMany('pod-1a', vip, 80, {
          transport: protocol,
          until: [],
          atLeast: 20,
          atMost: 20,
        });
        expect(local.answers).toEqual({ 'pod-1b': 20 });
        const until = ['pod-1b', 'pod-2a', 'pod-2b'];
        const any = await lab.dialMany('pod-1a', external, 80, {
          transport: protocol,
          until,
          atLeast: 20,
          atMost: 200,
        });
        expect(Object.keys(any.answers).sort()).toEqual(until);
      });

      it('serves node ports on the addresses of the node, and leaves loopback alone', async () => {
        await node.want(entry('web', { protocol, clusterIps: [vip], nodePort: 30080, endpoints: [at('pod-2a')] }));
        const loopback = family === 'IPv4' ? '127.0.0.1' : '::1';
        for (const from of ['pod-1a', 'node-1'])
          expect(await lab.dial(from, ip('node-1'), 30080, { transport: protocol })).toMatchObject({ by: 'pod-2a' });
        for (const from of ['pod-1a', 'node-1'])
          expect(await lab.dial(from, loopback, 30080, { transport: protocol })).toEqual({ t: 'refused' });
      });

      it('counts the sockets that each endpoint was given', async () => {
        await node.want(entry('counted', { protocol, clusterIps: [vip], endpoints: all.map((place) => at(place)) }));
        const tally = await lab.dialMany('pod-1a', vip, 80, {
          transport: protocol,
          until: all,
          atLeast: 20,
          atMost: 200,
        });
        const counted = node.driver.traffic().find(({ key }) => key.includes('counted'));
        const byAddress = new Map(counted?.endpoints.map((each) => [each.ip, each.counts.connections]));
        expect(byAddress).toEqual(new Map(Object.entries(tally.answers).map(([place, n]) => [ip(place), n])));
        expect(counted?.counts).toMatchObject({ packetsTo: 0, bytesTo: 0, packetsFrom: 0, bytesFrom: 0 });
      });

      it('keeps node ports from being bound on the node, and only there', async () => {
        await node.want(entry('web', { protocol, clusterIps: [vip], nodePort: 30080, endpoints: [at('pod-2a')] }));
        await expect(lab.serve('node-1', family, 30080, protocol)).rejects.toThrow(/EADDRINUSE/);
        await lab.serve('pod-1a', family, 30080, protocol);
      });

      it('binds clients to an endpoint while affinity lasts, until that endpoint goes', async () => {
        const sticky = (places: readonly string[]) =>
          entry('web', {
            protocol,
            clusterIps: [vip],
            affinityTimeoutSeconds: 10_800,
            endpoints: places.map((place) => at(place)),
          });
        await node.want(sticky(all));
        const first = await lab.dialMany('pod-1a', vip, 80, {
          transport: protocol,
          until: [],
          atLeast: 20,
          atMost: 20,
        });
        expect(Object.keys(first.answers)).toHaveLength(1);
        const [chosen = ''] = Object.keys(first.answers);
        const rest = all.filter((place) => place !== chosen);
        await node.want(sticky([chosen, ...rest.slice(0, 2)]));
        const second = await lab.dialMany('pod-1a', vip, 80, {
          transport: protocol,
          until: [],
          atLeast: 20,
          atMost: 20,
        });
        expect(second.answers).toEqual({ [chosen]: 20 });
        await node.want(sticky(rest));
        const third = await lab.dialMany('pod-1a', vip, 80, {
          transport: protocol,
          until: [],
          atLeast: 20,
          atMost: 20,
        });
        expect(Object.keys(third.answers)).toHaveLength(1);
        expect(rest).toContain(Object.keys(third.answers)[0]);
        await node.want(entry('web', { protocol, clusterIps: [vip], endpoints: all.map((place) => at(place)) }));
        await lab.dialMany('pod-1a', vip, 80, { transport: protocol, until: all, atLeast: 20, atMost: 200 });
      });
    });

    it('shows the service to who asks for the peer, of IPv4 in a v6 socket too', async () => {
      await node.want(entry('web', { clusterIps: [vip], endpoints: [at('pod-2a')] }));
      const script = `const s = net.connect(80, process.argv[1], () => { console.log(s.remoteAddress, s.remotePort); s.destroy(); })`;
      for (const target of family === 'IPv4' ? [vip, `::ffff:${vip}`] : [vip])
        expect(runIn('pod-1a', script, target)).toBe(`${target} 80\n`);
    });

    it('ends connected UDP sockets when their endpoint goes, in whatever pod, and no others (P30)', async () => {
      const web = (...places: string[]) =>
        node.want(entry('web', { protocol: 'UDP', clusterIps: [vip], endpoints: places.map((place) => at(place)) }));
      await web('pod-2a');
      const inPod = await connectedUdp('pod-1a', vip, family);
      const onNode = await connectedUdp('node-1', vip, family);
      await web('pod-2a', 'pod-2b');
      expect(inPod.ended()).toBe(false);
      await web('pod-2b');
      expect(await inPod.end).toBe('ECONNABORTED');
      expect(await onNode.end).toBe('ECONNABORTED');
    });

    it.each([
      { back: false, errno: 103, what: 'ends a socket that a program connected to an endpoint while that went' },
      { back: true, errno: 11, what: 'and leaves it alone when the endpoint is back by then' },
    ])('$what', async ({ back, errno }) => {
      const web = (...places: string[]) =>
        node.want(entry('web', { protocol: 'UDP', clusterIps: [vip], endpoints: places.map((place) => at(place)) }));
      await web('pod-2a', 'pod-2b');
      const [first] = node.driver.explain(keyOf('web', 80, 'UDP'));
      const service = Number(/service (\d+)/.exec(first?.says ?? '')?.[1]);
      // Such a program has read the old frontend, and says what it chose only after the sockets have been looked at.
      const { netns } = lab.place('pod-1a');
      const socket = openSocket(netnsPath(netns), family === 'IPv4' ? 4 : 6, socketTypes.datagram, ipProtocols.any);
      bindSocket(socket, ip('pod-1a'), 0);
      await web('pod-2b');
      const peer = Buffer.alloc(64);
      writeEndpoint(peer, 0, { ip: vip, port: 80, protocol: 'UDP' });
      writeEndpoint(peer, 24, { ip: ip('pod-2a'), port: 8080, protocol: 'UDP' });
      peer.writeUInt32LE(service, 48);
      peer.writeUInt32LE(1, 56);
      const key = Buffer.alloc(4);
      key.writeInt32LE(socket);
      const map = libbpf().openPin(join(pinsUnder(node.options.bpfFsPath).maps, 'udp_peers'));
      expect(libbpf().update(map, key, peer, 0n)).toBe(0);
      if (back) await web('pod-2a', 'pod-2b');
      await vi.waitUntil(() => node.driver.gauges()['ebpf_sets_in_grace'] === 0, { timeout: 10_000, interval: 1 });
      expect(libbpf().read(socket, Buffer.alloc(1), 1)).toBe(-1);
      expect(libbpf().errno()).toBe(errno);
      for (const fd of [map, socket]) libbpf().closeFd(fd);
    });

    it('refuses ports of a cluster IP that no service port has (P38)', async () => {
      await node.want(entry('web', { clusterIps: [vip], endpoints: [at('pod-2a')] }));
      expect(await lab.dial('pod-1a', vip, 81)).toEqual({ t: 'refused' });
    });
  });
});
