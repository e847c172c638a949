import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chunkTypes, type SctpChunk } from '../../support/lab/sctp-packet.ts';
import { endpoint, entry, here } from './node.ts';
import { PacketPrograms, packetPrograms, verdicts } from './packet-programs.ts';
import { echo, read, sctp, tcp, udp, unreachable } from './wire.ts';

/** The packet programs on packets that nobody means well with. */
describe('whatever the bytes', () => {
  let programs: PacketPrograms;
  beforeAll(async () => {
    programs = await PacketPrograms.open();
    await programs.want(
      ...(['TCP', 'UDP', 'SCTP'] as const).flatMap((protocol) => [
        entry(`web-${protocol.toLowerCase()}`, {
          protocol,
          clusterIps: ['10.96.0.10', 'fd00:96::a'],
          externalIps: ['198.51.100.1', '2001:db8:51::1'],
          externalPolicy: 'Local',
          affinityTimeoutSeconds: protocol === 'UDP' ? 600 : 0,
          nodePort: 30_080,
          endpoints: [...backends.IPv4, ...backends.IPv6].map((ip) =>
            endpoint(ip.includes(':') ? `[${ip}]:8080` : `${ip}:8080`, here),
          ),
        }),
        entry(`none-${protocol.toLowerCase()}`, { protocol, clusterIps: ['10.96.0.11', 'fd00:96::b'] }),
      ]),
    );
  });
  afterAll(() => programs[Symbol.asyncDispose]());

  const backends = { IPv4: ['10.244.1.10', '10.244.1.11'], IPv6: ['fd00:244:1::a', 'fd00:244:1::b'] } as const;
  const families = [
    {
      name: 'IPv4',
      client: '172.18.0.250',
      to: ['198.51.100.1', '10.96.0.10', '10.96.0.11', '172.18.0.1'],
      backend: backends.IPv4[0],
    },
    {
      name: 'IPv6',
      client: 'fd00:18::250',
      to: ['2001:db8:51::1', 'fd00:96::a', 'fd00:96::b', 'fd00:18::1'],
      backend: backends.IPv6[0],
    },
  ] as const;
  const few = (count: number, from: number) => fc.integer({ min: from, max: from + count });
  const payload = fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes));

  /** Of a client, of a backend, and errors about either; right as they are. Few ports, so that packets meet flows. */
  const good = fc
    .record({
      family: fc.constantFrom(...families),
      to: fc.nat(3),
      kind: fc.constantFrom('tcp', 'udp', 'sctp', 'echo', 'error', 'answer'),
      sport: few(4, 5000),
      flags: fc.constantFrom(2, 16, 17, 4, 18),
      ttl: fc.constantFrom(1, 2, 64),
      payload,
    })
    .map(({ family, to, kind, sport, flags, ttl, payload }) => {
      const there = { from: family.client, to: family.to[to] ?? '', ttl };
      const ports = { sport, dport: there.to === family.to[3] ? 30_080 : 80, payload };
      const back = { from: family.backend, to: family.client, ttl };
      if (kind === 'tcp') return tcp(there, ports, flags);
      if (kind === 'udp') return udp(there, ports);
      if (kind === 'sctp') return sctp(there, ports, sctpChunk(flags, payload));
      if (kind === 'echo') return echo(there, payload);
      if (kind === 'answer') return udp(back, { sport: 8080, dport: sport, payload });
      return unreachable(back, udp({ from: family.client, to: family.backend }, { sport, dport: 8080, payload }));
    });

  function runAll(packet: Buffer, look: (ran: ReturnType<PacketPrograms['run']>) => void = () => undefined): void {
    for (const program of packetPrograms) {
      const ran = programs.run(program, packet);
      expect(ran.result).toBe(0);
      expect(Object.values(verdicts)).toContain(ran.verdict);
      look(ran);
    }
  }

  it('what is right goes on with right checksums, or not at all', () => {
    fc.assert(
      fc.property(good, (packet) => {
        runAll(packet, ({ verdict, packet: output }) => {
          if (verdict !== verdicts.drop) expect(read(output).valid).toBe(true);
        });
      }),
      { numRuns: 3000 },
    );
  });

  it('altered bytes and cut-off headers do no harm', () => {
    const change = fc.record({ at: fc.nat(400), byte: fc.nat(255) });
    fc.assert(
      fc.property(good, fc.array(change, { maxLength: 4 }), fc.option(fc.nat(400)), (packet, changes, cut) => {
        // The type of the frame stays: BPF_PROG_TEST_RUN takes its packet for what that says.
        for (const { at, byte } of changes) packet[14 + (at % (packet.length - 14))] = byte;
        const least = shortest(packet);
        runAll(cut === null ? packet : packet.subarray(0, least + (cut % (packet.length - least + 1))));
      }),
      { numRuns: 4000 },
    );
  });

  it('chains of extension headers, long, broken and cut off, do no harm', () => {
    const header = fc.record({ type: fc.constantFrom(0, 43, 44, 60), length: fc.nat(3), bytes: fc.nat(0xffff) });
    fc.assert(
      fc.property(
        fc.array(header, { minLength: 1, maxLength: 8 }),
        fc.constantFrom(6, 17, 58, 59, 132),
        fc.option(fc.nat(200)),
        (headers, last, cut) => {
          const packet = udp({ from: families[1].client, to: families[1].to[0] }, { sport: 5000, dport: 80 });
          const types = [...headers.map(({ type }) => type), last];
          const chain = headers.map(({ type, length, bytes }, i) => {
            const made = Buffer.alloc(type === 44 ? 8 : 8 * (length + 1), bytes & 255);
            made[0] = types[i + 1] ?? 59;
            made[1] = length;
            if (type === 44) made.writeUInt16BE(bytes, 2);
            return made;
          });
          const ip = packet.subarray(0, 54);
          ip[20] = types[0] ?? 59;
          const whole = Buffer.concat([ip, ...chain, packet.subarray(54)]);
          whole.writeUInt16BE(whole.length - 54, 18);
          runAll(cut === null ? whole : whole.subarray(0, 54 + (cut % (whole.length - 53))));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('fragments in any order do no harm, and go where the first one went', () => {
    fc.assert(
      fc.property(fc.constantFrom(0x2000, 0x2001, 0x0001, 0x1fff, 0x3fff), fc.nat(3), good, (fragment, id, packet) => {
        if (packet.readUInt16BE(12) !== 0x0800) return;
        packet.writeUInt16BE(id, 18);
        packet.writeUInt16BE(fragment, 20);
        runAll(packet);
      }),
      { numRuns: 1000 },
    );
    const wire = { from: families[0].client, to: families[0].to[0] };
    const ports = { sport: 6000, dport: 80, payload: Buffer.alloc(64, 7) };
    const part = (field: number): Buffer => {
      const packet = udp(wire, ports);
      packet.writeUInt16BE(77, 18);
      packet.writeUInt16BE(field, 20);
      return packet;
    };
    const first = read(programs.run('octo_outside', part(0x2000)).packet).to;
    expect(backends.IPv4).toContain(first);
    expect(read(programs.run('octo_outside', part(0x0009)).packet).to).toBe(first);
  });

  it('what is not for a service stays as it is', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 54, maxLength: 300 }),
        fc.constantFrom(0x0800, 0x86dd, 0x0806),
        (bytes, type) => {
          const packet = Buffer.from(bytes);
          packet.writeUInt16BE(type, 12);
          packet[14] = type === 0x0800 ? 0x45 : 0x60;
          runAll(packet, ({ verdict, packet: output }) => {
            expect(verdict).toBe(verdicts.pass);
            expect(output.equals(packet)).toBe(true);
          });
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('and after all this, every flow still has its two halves', () => {
    const dump = execFileSync('bpftool', ['map', 'dump', 'pinned', join(programs.mapDirectory, 'flows'), '-j'], {
      maxBuffer: 1 << 28,
    });
    const flows = JSON.parse(dump.toString()) as { key: string[]; value: string[] }[];
    const keys = new Set(flows.map(({ key }) => hex(key)));
    expect(keys.size).toBeGreaterThan(10);
    for (const { key, value } of flows) expect(keys).toContain(hex(partnerOf(key, value)));
  });
});

/** What opens an association, belongs to one, or ends it. */
function sctpChunk(flags: number, cookie: Buffer): SctpChunk {
  if (flags === 2) return { type: chunkTypes.init, tag: 1 };
  return flags === 4 ? { type: chunkTypes.abort } : { type: chunkTypes.cookieEcho, cookie };
}

/** BPF_PROG_TEST_RUN takes no packet without a whole IP header. */
const shortest = (packet: Buffer): number => (packet.readUInt16BE(12) === 0x86dd ? 54 : 34);

const hex = (bytes: readonly string[]): string => bytes.map((byte) => byte.slice(2)).join('');

/** struct tuple of the other half (structs.h): the new tuple, reversed. */
function partnerOf(key: readonly string[], value: readonly string[]): readonly string[] {
  const [seen, src, dst] = [8, 24, 40];
  return [
    ...value.slice(src, dst),
    ...value.slice(seen, src),
    ...value.slice(42, 44),
    ...value.slice(40, 42),
    ...key.slice(36),
  ];
}
