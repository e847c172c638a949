import { execFileSync } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Ip, ipToBytes } from '@octoplane/model/address.ts';
import { changesBetween } from '@octoplane/model/delta.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import { buildPrograms } from '@octoplane/node/bpf/build.ts';
import { defaultCapacity } from '@octoplane/node/drivers/ebpf/capacity.ts';
import { EbpfDriver } from '@octoplane/node/drivers/ebpf/driver.ts';
import { libbpf } from '@octoplane/node/drivers/ebpf/libbpf.ts';
import { LoadedObject, objectPath } from '@octoplane/node/drivers/ebpf/object.ts';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { enterOwnNetwork, run } from '../../contract/namespace.ts';
import { contractOptions } from '../../contract/options.ts';
import { cgroupRoot } from '../../support/lab/build.ts';
import { endpoint, entry, here } from './node.ts';
import { echo, read, tcp, udp, unreachable } from './wire.ts';

/** The packet programs on packets of our making (BPF_PROG_TEST_RUN): no network, every byte in view. */
const SYN = 2;
const RST_ACK = 0x14;
const verdicts = { pass: 0xffffffff, drop: 2, redirect: 7 } as const;

/**
 * Instructions that the verifier walked (Linux 6.18). More than a quarter above it is a jump: older kernels may not take
 * the program any more, and it deserves a look. After a change that is worth it, write the new number.
 */
const verified: Readonly<Record<string, number>> = {
  octo_outside: 37_751,
  octo_inside: 38_568,
  octo_leaving: 45_629,
  octo_connect4: 708,
  octo_connect6: 848,
  octo_sendmsg4: 1355,
  octo_sendmsg6: 1472,
  octo_recvmsg4: 117,
  octo_peername4: 117,
  octo_bind4: 41,
};

buildPrograms();
enterOwnNetwork();
const cgroupPath = join(cgroupRoot(), `octoplane-programs-${process.pid}`);
mkdirSync(cgroupPath);
const options = contractOptions({ cgroupPath });
execFileSync('mount', ['-t', 'bpf', 'bpf', options.bpfFsPath]);
afterAll(() => {
  execFileSync('umount', [options.bpfFsPath]);
  options[Symbol.dispose]();
  rmdirSync(cgroupPath);
});

describe('the packet programs', () => {
  let driver: EbpfDriver;
  let object: LoadedObject;
  beforeAll(async () => {
    run('ip', 'addr', 'add', '172.18.0.1/32', 'dev', 'lo');
    run('ip', 'addr', 'add', 'fd00:18::1/128', 'dev', 'lo');
    driver = EbpfDriver.open({ ...options, nodeAddresses: ['172.18.0.1', 'fd00:18::1'] }, defaultCapacity);
    await driver.prune(new Map());
    object = LoadedObject.load(objectPath('packets'), join(options.bpfFsPath, 'octoplane/maps-1'), {});
    const entries = [local('TCP'), local('UDP'), empty('TCP'), empty('UDP')];
    await driver.apply([...changesBetween(new Map(), new Map(entries.map((each) => [each.key, each])))]);
  });
  afterAll(async () => {
    object.close();
    await driver.cleanup();
    await driver.close();
  });

  const backends = ['10.244.1.10', '10.244.1.11', 'fd00:244:1::a', 'fd00:244:1::b'];
  const local = (protocol: 'TCP' | 'UDP'): Entry =>
    entry(`local-${protocol.toLowerCase()}`, {
      protocol,
      clusterIps: ['10.96.0.10', 'fd00:96::a'],
      externalIps: ['198.51.100.1', '2001:db8:51::1'],
      externalPolicy: 'Local',
      endpoints: backends.map((ip) => endpoint(ip.includes(':') ? `[${ip}]:8080` : `${ip}:8080`, here)),
    });
  const empty = (protocol: 'TCP' | 'UDP'): Entry =>
    entry(`empty-${protocol.toLowerCase()}`, { protocol, clusterIps: ['10.96.0.11', 'fd00:96::b'] });

  function runProgram(name: string, packet: Buffer, repeat = 1) {
    const output = Buffer.alloc(packet.length + 256);
    const run = {
      data_in: packet,
      data_out: output,
      data_size_in: packet.length,
      data_size_out: output.length,
      ctx_in: null,
      ctx_out: null,
      ctx_size_in: 0,
      ctx_size_out: 0,
      retval: 0,
      repeat,
      duration: 0,
      flags: 0,
      cpu: 0,
      batch_size: 0,
    };
    const result = libbpf().testRun(object.programFd(name), run);
    return { result, verdict: run.retval, packet: output.subarray(0, run.data_size_out) };
  }

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
        fc.property(port, payload, fc.boolean(), (sport, data, isTcp) => {
          const make = (from: Ip, to: Ip, ports: { sport: number; dport: number }) =>
            isTcp
              ? tcp({ from, to }, { ...ports, payload: data }, SYN)
              : udp({ from, to }, { ...ports, payload: data });
          const there = runProgram('octo_outside', make(client, external, { sport, dport: 80 }));
          expect(there.verdict).toBe(verdicts.pass);
          const request = read(there.packet);
          expect(request.valid).toBe(true);
          expect(request.from).toBe(text(client));
          const backend = backends.find((ip) => text(ip) === request.to);
          expect(backend).toBeDefined();
          expect(request.body.readUInt16BE(2)).toBe(8080);
          const back = runProgram(
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
      const first = runProgram('octo_outside', packet).packet;
      for (let i = 0; i < 20; i++) expect(runProgram('octo_outside', packet).packet.equals(first)).toBe(true);
    });

    it('answers pings with their own payload', () => {
      fc.assert(
        fc.property(payload, (data) => {
          const { verdict, packet } = runProgram('octo_outside', echo({ from: client, to: vip }, data));
          const reply = read(packet);
          expect(verdict).toBe(verdicts.redirect);
          expect(reply).toMatchObject({ from: text(vip), to: text(client), ttl: 64, valid: true });
          expect(reply.body[0]).toBe(client.includes(':') ? 129 : 0);
          expect(reply.body.subarray(8).equals(data)).toBe(true);
        }),
      );
    });

    it('refuses TCP by a reset of the SYN, and UDP by an error that quotes the datagram', () => {
      fc.assert(
        fc.property(port, payload, (sport, data) => {
          const reset = runProgram(
            'octo_outside',
            tcp({ from: client, to: nobody }, { sport, dport: 80, payload: data }, SYN),
          );
          expect(reset.verdict).toBe(verdicts.redirect);
          const refusal = read(reset.packet);
          expect(refusal).toMatchObject({ from: text(nobody), to: text(client), valid: true });
          expect([refusal.body.readUInt16BE(0), refusal.body.readUInt16BE(2)]).toEqual([80, sport]);
          expect(refusal.body.readUInt32BE(8)).toBe(0x01020305);
          expect(refusal.body[13]).toBe(RST_ACK);

          const sent = udp({ from: client, to: nobody }, { sport, dport: 80, payload: data });
          const error = runProgram('octo_outside', sent);
          expect(error.verdict).toBe(verdicts.redirect);
          const unreached = read(error.packet);
          expect(unreached).toMatchObject({ from: text(nobody), to: text(client), valid: true });
          const quoted = client.includes(':') ? 48 : 28;
          expect(unreached.body.subarray(8).equals(sent.subarray(14, 14 + quoted))).toBe(true);
        }),
      );
    });

    it('translates the quote in an error of a backend', () => {
      const there = runProgram('octo_outside', udp({ from: client, to: external }, { sport: 6000, dport: 80 })).packet;
      const backend = backends.find((ip) => text(ip) === read(there).to) ?? '';
      const error = runProgram('octo_leaving', unreachable({ from: backend, to: client }, there));
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

    it('makes every packet that is cut off pass, drop or be answered, and never grows it out of nothing', () => {
      const whole = [
        tcp({ from: client, to: external }, { sport: 7000, dport: 80 }, SYN),
        udp({ from: client, to: nobody }, { sport: 7000, dport: 80, payload: Buffer.alloc(40, 1) }),
        echo({ from: client, to: vip }, Buffer.alloc(40, 2)),
      ];
      for (const packet of whole)
        for (let length = shortest(packet); length < packet.length; length++)
          for (const program of programs) {
            const { result, verdict } = runProgram(program, packet.subarray(0, length));
            expect(result).toBe(0);
            expect(Object.values(verdicts)).toContain(verdict);
          }
    });
  });

  const programs = ['octo_outside', 'octo_inside', 'octo_leaving'];

  it('leaves what is not for a service as it is, whatever the bytes', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 54, maxLength: 300 }),
        fc.constantFrom(0x0800, 0x86dd, 0x0806),
        (bytes, type) => {
          const packet = Buffer.from(bytes);
          packet.writeUInt16BE(type, 12);
          if (packet.length > 14) packet[14] = type === 0x0800 ? 0x45 : 0x60;
          for (const program of programs) {
            const { result, verdict, packet: output } = runProgram(program, packet);
            expect(result).toBe(0);
            expect(verdict).toBe(verdicts.pass);
            expect(output.equals(packet)).toBe(true);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('takes any bytes after the addresses of a service', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...families),
        fc.uint8Array({ maxLength: 120 }),
        fc.constantFrom(1, 6, 17, 58, 0, 43, 44, 60),
        (family, bytes, protocol) => {
          const packet = Buffer.concat([
            udp({ from: family.client, to: family.external }, { sport: 1, dport: 80 }),
            bytes,
          ]);
          const v6 = family.client.includes(':');
          packet[14 + (v6 ? 6 : 9)] = protocol;
          packet.set(bytes.subarray(0, 8), v6 ? 54 : 34);
          for (const program of programs) {
            const { result, verdict } = runProgram(program, packet);
            expect(result).toBe(0);
            expect(Object.values(verdicts)).toContain(verdict);
          }
        },
      ),
      { numRuns: 2000 },
    );
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
        return read(runProgram('octo_outside', tcp(wire, { sport: 2000 + i, dport: 80 }, SYN)).packet).to;
      });
    await driver.apply([{ key: ten.key, before: null, after: ten }]);
    const before = place();
    const counts = Map.groupBy(before, (ip) => ip);
    expect(counts.size).toBe(10);
    for (const [ip, flows] of counts) expect(flows.length, ip).toSatisfy((n: number) => n > 130 && n < 270);
    forgetFlows();
    await driver.apply([{ key: nine.key, before: ten, after: nine }]);
    const after = place();
    for (const [i, ip] of before.entries()) if (ip !== '10.244.3.10') expect(after[i]).toBe(ip);
    expect(new Set(after.filter((_, i) => before[i] === '10.244.3.10')).size).toBe(9);
  });

  it('costs the verifier what it did', () => {
    const sockets = LoadedObject.load(objectPath('sockets'), join(options.bpfFsPath, 'octoplane/maps-1'), {});
    const counts: Record<string, number> = {};
    for (const name of programs) counts[name] = verifiedInstructions(object.programFd(name));
    for (const name of ['connect4', 'connect6', 'sendmsg4', 'sendmsg6', 'recvmsg4', 'peername4', 'bind4'])
      counts[`octo_${name}`] = verifiedInstructions(sockets.programFd(`octo_${name}`));
    sockets.close();
    expect(Object.keys(counts).sort()).toEqual(Object.keys(verified).sort());
    for (const [name, count] of Object.entries(counts)) expect(count, name).toBeLessThan((verified[name] ?? 0) * 1.25);
  });
});

/** As if all connections had ended long ago: what is chosen then is chosen anew. */
function forgetFlows(): void {
  const bpf = libbpf();
  const fd = bpf.openPin(join(options.bpfFsPath, 'octoplane/maps-1/flows'));
  const key = Buffer.alloc(40);
  while (bpf.nextKey(fd, null, key) === 0) bpf.remove(fd, key);
  bpf.closeFd(fd);
}

/** BPF_PROG_TEST_RUN takes no packet without a whole IP header. */
const shortest = (packet: Buffer): number => (packet.readUInt16BE(12) === 0x86dd ? 54 : 34);

/** verified_insns of struct bpf_prog_info (Linux 5.16). */
function verifiedInstructions(program: number): number {
  const info = Buffer.alloc(256);
  expect(libbpf().info(program, info, Uint32Array.of(info.length))).toBe(0);
  return info.readUInt32LE(216);
}
