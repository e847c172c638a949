import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { ServiceTraffic } from '@octoplane/node/drivers/driver.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { endpoint, entry, here } from './node.ts';
import { PacketPrograms } from './packet-programs.ts';
import { read, tcp } from './wire.ts';

/** What the kernel counts, to the packet and the byte. (Of sockets: sockets.test.ts.) */
describe('counts', () => {
  let programs: PacketPrograms;
  beforeAll(async () => {
    programs = await PacketPrograms.open();
  });
  afterAll(() => programs[Symbol.asyncDispose]());
  beforeEach(async () => {
    await programs.want();
    programs.driver.traffic();
    programs.forgetFlows();
  });

  const SYN = 2;
  const ACK = 16;
  const client = '172.18.0.250';
  const service = '198.51.100.1';
  const [a, b] = ['10.244.1.10', '10.244.1.11'];
  const web = (...pods: readonly string[]) =>
    entry('web', {
      externalIps: [service],
      externalPolicy: 'Local',
      endpoints: pods.map((ip) => endpoint(`${ip}:8080`, here)),
    });

  /** A connection of three packets to the service and one back, 40 bytes each and the payload. */
  function connect(sport: number, payload: number): string {
    const to = { from: client, to: service };
    const ports = { sport, dport: 80 };
    programs.run('octo_outside', tcp(to, ports, SYN));
    programs.run('octo_outside', tcp(to, ports, ACK));
    const last = programs.run('octo_outside', tcp(to, { ...ports, payload: Buffer.alloc(payload) }, ACK));
    const backend = read(last.packet).to;
    programs.run('octo_leaving', tcp({ from: backend, to: client }, { sport: 8080, dport: sport }, ACK));
    return backend;
  }
  const traffic = (): ServiceTraffic | undefined => {
    const all = programs.driver.traffic();
    expect(all.length).toBeLessThan(2);
    return all[0];
  };

  it('counts connections, packets and bytes of each endpoint in both directions', async () => {
    await programs.want(web(a, b));
    expect(traffic()).toBeUndefined();
    const connections = new Map<string, number>();
    for (let i = 0; i < 40; i++) {
      const backend = connect(5000 + i, 100);
      connections.set(backend, (connections.get(backend) ?? 0) + 1);
    }
    const of = (n: number) => ({
      connections: n,
      packetsTo: 3 * n,
      bytesTo: 220 * n,
      packetsFrom: n,
      bytesFrom: 40 * n,
    });
    const counted = traffic();
    expect(counted?.key).toBe('default/web:80/TCP');
    expect(counted?.counts).toEqual(of(40));
    for (const { ip, port, counts } of counted?.endpoints ?? [])
      expect([ip, port, counts]).toEqual([ip, 8080, of(connections.get(ip) ?? 0)]);
    expect(counted?.endpoints).toHaveLength(connections.size);
  });

  it("keeps a service port's sum when endpoints go, even without a daemon to see it, and forgets it with the service port", async () => {
    await programs.want(web(a));
    connect(6000, 0);
    await programs.want(web(b));
    connect(6001, 0);
    expect(traffic()).toMatchObject({
      counts: { connections: 2, packetsTo: 6, packetsFrom: 2 },
      endpoints: [{ ip: b, counts: { connections: 1 } }],
    });
    await programs.want(web(a));
    connect(6002, 0);
    expect(traffic()).toMatchObject({ counts: { connections: 3 }, endpoints: [{ ip: a, counts: { connections: 1 } }] });
    expect(traffic()).toMatchObject({ counts: { connections: 3 } });
    await programs.want();
    expect(traffic()).toBeUndefined();
    const left = execFileSync('bpftool', ['map', 'dump', 'pinned', join(programs.mapDirectory, 'counts'), '-j']);
    expect(JSON.parse(left.toString())).toEqual([]);
  });

  it('shows the elements of the maps behind a service port, as they are in the kernel', async () => {
    const both = { ...web(a, b), spec: { ...web(a, b).spec, clusterIps: ['10.96.0.10'], nodePort: 30_080 } };
    await programs.want(both);
    const { driver } = programs;
    const evidence = driver.explain(web().key);
    const at = (object: string) => evidence.filter((each) => each.object === object);
    expect(at('map frontends').map((each) => each.at)).toEqual([
      '10.96.0.10 port 80/TCP',
      '198.51.100.1 port 80/TCP',
      '0.0.0.0 port 30080/TCP',
    ]);
    expect(at('map frontends')[1]?.says).toMatch(
      /^service \d+, externalIp, clients inside get slots \d+ to \d+, packets from outside slots \d+ to \d+, generation \d+$/,
    );
    expect(at('map addresses').map(({ at, says }) => [at, says])).toEqual([
      ['10.96.0.10', 'clusterIp, ping: reply'],
      ['198.51.100.1', 'external, ping: reply'],
    ]);
    expect(at('map services')).toHaveLength(1);
    expect(at('map backends').map(({ says }) => says.replace(/service \d+/, 'service N'))).toEqual([
      '10.244.1.10:8080 of service N, cluster and local',
      '10.244.1.11:8080 of service N, cluster and local',
    ]);
    programs.wipe('frontends', 24);
    expect(driver.explain(web().key)[0]).toEqual({
      object: 'map frontends',
      at: '10.96.0.10 port 80/TCP',
      says: 'is not there',
    });
    await programs.want();
    expect(driver.explain(web().key)).toEqual([]);
  });
});
