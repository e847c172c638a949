import { type Ip, ipToBytes } from '@octoplane/model/address.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chunkTypes } from '../../support/lab/sctp-packet.ts';
import { endpoint, entry, here } from './node.ts';
import { PacketPrograms, verdicts } from './packet-programs.ts';
import { echo, read, sctp, tcp, udp, unreachable } from './wire.ts';

/** The packet programs on packets of our making (BPF_PROG_TEST_RUN): no network, every byte in view. */
const SYN = 2;
const RST_ACK = 0x14;

describe('the packet programs', () => {
  let programs: PacketPrograms;
  beforeAll(async () => {
    programs = await PacketPrograms.open();
    await programs.want(...standing());
  });
  afterAll(() => programs[Symbol.asyncDispose]());

  const backends = ['10.244.1.10', '10.244.1.11', 'fd00:244:1::a', 'fd00:244:1::b'];
  const local = (protocol: 'TCP' | 'UDP' | 'SCTP'): Entry =>
    entry(`local-${protocol.toLowerCase()}`, {
      protocol,
      clusterIps: ['10.96.0.10', 'fd00:96::a'],
      externalIps: ['198.51.100.1', '2001:db8:51::1'],
      externalPolicy: 'Local',
      endpoints: backends.map((ip) => endpoint(ip.includes(':') ? `[${ip}]:8080` : `${ip}:8080`, here)),
    });
  const empty = (protocol: 'TCP' | 'UDP' | 'SCTP'): Entry =>
    entry(`empty-${protocol.toLowerCase()}`, { protocol, clusterIps: ['10.96.0.11', 'fd00:96::b'] });

  const protocols = ['TCP', 'UDP', 'SCTP'] as const;
  const standing = () => protocols.flatMap((protocol) => [local(protocol), empty(protocol)]);

  const families = [
    { client: '172.18.0.250', external: '198.51.100.1', empty: '10.96.0.11', vip: '10.96.0.10' },
    { client: 'fd00:18::250', external: '2001:db8:51::1', empty: 'fd00:96::b', vip: 'fd00:96::a' },
  ] as const;
  const text = (ip: Ip) => (ip.includes(':') ? Buffer.from(ipToBytes(ip)).toString('hex') : ip);
  const port = fc.integer({ min: 1024, max: 65_535 });
  const payload = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));

  describe.each(families)('$external', ({ client, external, empty: nobody, vip }) => {
    it('translates there and back, with right checksums, whatever the ports and the payload', () => {
      fc.assert(
        fc.property(port, payload, fc.constantFrom(...protocols), (sport, data, protocol) => {
          const make = (from: Ip, to: Ip, ports: { sport: number; dport: number }) => {
            if (protocol === 'TCP') return tcp({ from, to }, { ...ports, payload: data }, SYN);
            if (protocol === 'UDP') return udp({ from, to }, { ...ports, payload: data });
            return sctp({ from, to }, ports, { type: chunkTypes.initAck, tag: 1, cookie: data });
          };
          if (protocol === 'SCTP') {
            const init = sctp({ from: client, to: external }, { sport, dport: 80 }, { type: chunkTypes.init, tag: 1 });
            expect(programs.run('octo_outside', init).verdict).toBe(verdicts.pass);
          }
          const there = programs.run('octo_outside', make(client, external, { sport, dport: 80 }));
          expect(there.verdict).toBe(verdicts.pass);
          const request = read(there.packet);
          expect(request.valid).toBe(true);
          expect(request.from).toBe(text(client));
          const backend = backends.find((ip) => text(ip) === request.to);
          expect(backend).toBeDefined();
          expect(request.body.readUInt16BE(2)).toBe(8080);
          const back = programs.run(
            'octo_leaving',
            make(backend ?? '', client, { sport: 8080, dport: request.body.readUInt16BE(0) }),
          );
          const answer = read(back.packet);
          expect(answer.valid).toBe(true);
          expect([answer.from, answer.to]).toEqual([text(external), text(client)]);
          expect([answer.body.readUInt16BE(0), answer.body.readUInt16BE(2)]).toEqual([80, sport]);
        }),
      );
    });

    it('gives every flow of a client the backend that it had', () => {
      const packet = tcp({ from: client, to: external }, { sport: 5000, dport: 80 }, SYN);
      const first = programs.run('octo_outside', packet).packet;
      for (let i = 0; i < 20; i++) expect(programs.run('octo_outside', packet).packet.equals(first)).toBe(true);
    });

    it('answers pings with their own payload', () => {
      fc.assert(
        fc.property(payload, (data) => {
          const { verdict, packet } = programs.run('octo_outside', echo({ from: client, to: vip }, data));
          const reply = read(packet);
          expect(verdict).toBe(verdicts.redirect);
          expect(reply).toMatchObject({ from: text(vip), to: text(client), ttl: 64, valid: true });
          expect(reply.body[0]).toBe(client.includes(':') ? 129 : 0);
          expect(reply.body.subarray(8).equals(data)).toBe(true);
        }),
      );
    });

    it('refuses TCP by a reset of the SYN, and others by an error that quotes the datagram', () => {
      fc.assert(
        fc.property(port, payload, (sport, data) => {
          const reset = programs.run(
            'octo_outside',
            tcp({ from: client, to: nobody }, { sport, dport: 80, payload: data }, SYN),
          );
          expect(reset.verdict).toBe(verdicts.redirect);
          const refusal = read(reset.packet);
          expect(refusal).toMatchObject({ from: text(nobody), to: text(client), valid: true });
          expect([refusal.body.readUInt16BE(0), refusal.body.readUInt16BE(2)]).toEqual([80, sport]);
          expect(refusal.body.readUInt32BE(8)).toBe(0x01020305);
          expect(refusal.body[13]).toBe(RST_ACK);

          for (const sent of [
            udp({ from: client, to: nobody }, { sport, dport: 80, payload: data }),
            sctp({ from: client, to: nobody }, { sport, dport: 80 }, { type: chunkTypes.init, tag: sport }),
          ]) {
            const error = programs.run('octo_outside', sent);
            expect(error.verdict).toBe(verdicts.redirect);
            const unreached = read(error.packet);
            expect(unreached).toMatchObject({ from: text(nobody), to: text(client), valid: true });
            const quoted = client.includes(':') ? 48 : 28;
            expect(unreached.body.subarray(8).equals(sent.subarray(14, 14 + quoted))).toBe(true);
          }
        }),
      );
    });

    it('refuses ports that no service port of a cluster IP has (P38), and lets those of other addresses pass', () => {
      const wire = (to: Ip) => ({ from: client, to });
      const ports = { sport: 5000, dport: 81 };
      for (const make of [
        (to: Ip) => tcp(wire(to), ports, SYN),
        (to: Ip) => udp(wire(to), ports),
        (to: Ip) => sctp(wire(to), ports, { type: chunkTypes.init, tag: 1 }),
      ]) {
        const refused = programs.run('octo_inside', make(vip));
        expect(refused.verdict).toBe(verdicts.redirect);
        expect(read(refused.packet)).toMatchObject({ from: text(vip), to: text(client), valid: true });
        expect(programs.run('octo_outside', make(external)).verdict).toBe(verdicts.pass);
      }
      // Of a connection that we know nothing of.
      expect(programs.run('octo_inside', tcp(wire(vip), ports, 16)).verdict).toBe(verdicts.pass);
    });

    it('translates the quote in an error of a backend', () => {
      const there = programs.run(
        'octo_outside',
        udp({ from: client, to: external }, { sport: 6000, dport: 80 }),
      ).packet;
      const backend = backends.find((ip) => text(ip) === read(there).to) ?? '';
      const error = programs.run('octo_leaving', unreachable({ from: backend, to: client }, there));
      const shown = read(error.packet);
      expect(shown).toMatchObject({ from: text(external), to: text(client), valid: true });
      const inner = shown.body.subarray(8);
      const v6 = client.includes(':');
      const at = v6 ? 40 : 20;
      expect([inner.readUInt16BE(at), inner.readUInt16BE(at + 2)]).toEqual([6000, 80]);
      expect(inner.subarray(v6 ? 24 : 16, at).equals(Buffer.from(ipToBytes(external)))).toBe(true);
      if (!v6)
        expect(
          read(Buffer.concat([Buffer.from('020000000001020000000002', 'hex'), Buffer.from([8, 0]), inner])).from,
        ).toBe(client);
    });
  });

  it('spreads new flows evenly, and moves those of an endpoint that goes and no others', async () => {
    const many = (count: number) =>
      entry('many', {
        externalIps: ['198.51.100.9'],
        externalPolicy: 'Local',
        endpoints: Array.from({ length: count }, (_, i) => endpoint(`10.244.3.${i + 1}:8080`, here)),
      });
    const [ten, nine] = [many(10), many(9)];
    const place = () =>
      Array.from({ length: 2000 }, (_, i) => {
        const wire = { from: `172.18.1.${i % 200}`, to: '198.51.100.9' };
        return read(programs.run('octo_outside', tcp(wire, { sport: 2000 + i, dport: 80 }, SYN)).packet).to;
      });
    await programs.want(...standing(), ten);
    const before = place();
    const counts = Map.groupBy(before, (ip) => ip);
    expect(counts.size).toBe(10);
    for (const [ip, flows] of counts) expect(flows.length, ip).toSatisfy((n: number) => n > 130 && n < 270);
    programs.forgetFlows();
    await programs.want(...standing(), nine);
    const after = place();
    for (const [i, ip] of before.entries()) if (ip !== '10.244.3.10') expect(after[i]).toBe(ip);
    expect(new Set(after.filter((_, i) => before[i] === '10.244.3.10')).size).toBe(9);
  });
});
