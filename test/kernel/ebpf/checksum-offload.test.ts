import { closeSync, writeFileSync } from 'node:fs';
import koffi from 'koffi';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../contract/namespace.ts';
import { chunkTypes, decodeSctp } from '../../support/lab/sctp-packet.ts';
import { endpoint, entry } from './node.ts';
import { PacketPrograms } from './packet-programs.ts';
import { sctp } from './wire.ts';

/**
 * SCTP sockets of pods leave the checksum to a device, and no device comes before our program: there is none yet to renew. Sent here
 * through packet sockets, which may say so of any packet (PACKET_VNET_HDR).
 */
describe('a checksum of SCTP', () => {
  let programs: PacketPrograms;
  let pod: number;
  let server: number;
  beforeAll(async () => {
    programs = await PacketPrograms.open();
    for (const [device, peer] of [
      ['pod', 'pod-end'],
      ['server', 'server-end'],
    ] as const) {
      run('ip', 'link', 'add', device, 'type', 'veth', 'peer', 'name', peer);
      for (const end of [device, peer]) run('ip', 'link', 'set', end, 'up');
    }
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
    run('ip', 'route', 'add', '10.244.1.10/32', 'dev', 'server');
    run('ip', 'neigh', 'add', '10.244.1.10', 'lladdr', '02:00:00:00:00:09', 'dev', 'server');
    const web = entry('web', {
      protocol: 'SCTP',
      clusterIps: ['10.96.0.10'],
      endpoints: [endpoint('10.244.1.10:8080')],
    });
    await programs.want(web);
    await programs.driver.prune(new Map([[web.key, web]]));
    pod = packetSocket('pod-end');
    server = packetSocket('server-end');
  });
  afterAll(async () => {
    for (const fd of [pod, server]) closeSync(fd);
    await programs[Symbol.asyncDispose]();
  });

  const wire = { from: '10.244.1.11', to: '10.96.0.10' };
  /** What arrives of an INIT at the server's end, from the SCTP header on. */
  async function sendThrough(sport: number, toCome: boolean): Promise<Buffer> {
    const frame = sctp(wire, { sport, dport: 80 }, { type: chunkTypes.init, tag: 5 });
    if (toCome) frame.writeUInt32BE(0xdeadbeef, 34 + 8);
    // struct virtio_net_hdr: VIRTIO_NET_HDR_F_NEEDS_CSUM, where the sum begins, and where it goes.
    const head = Buffer.alloc(10);
    if (toCome) {
      head[0] = 1;
      head.writeUInt16LE(34, 6);
      head.writeUInt16LE(8, 8);
    }
    const message = Buffer.concat([head, frame]);
    expect(send(pod, message, message.length, 0)).toBe(message.length);
    return receiveSctp(server);
  }

  it('is renewed where it is there', async () => {
    const arrived = await sendThrough(5000, false);
    expect(decodeSctp(arrived)).toMatchObject({ destinationPort: 8080, chunk: { type: chunkTypes.init, tag: 5 } });
  });

  it('is left alone where it is to come', async () => {
    const arrived = await sendThrough(5001, true);
    expect(arrived.readUInt16BE(2)).toBe(8080);
    expect(arrived.readUInt32BE(8)).toBe(0xdeadbeef);
  });
});

const libc = koffi.load('libc.so.6');
const socket: (family: number, type: number, protocol: number) => number = libc.func('int socket(int, int, int)');
const bind: (fd: number, to: Buffer, bytes: number) => number = libc.func('int bind(int, const void *, uint32_t)');
const setOption: (fd: number, level: number, name: number, value: Buffer, bytes: number) => number = libc.func(
  'int setsockopt(int, int, int, const void *, uint32_t)',
);
const nameToIndex: (name: string) => number = libc.func('uint32_t if_nametoindex(const char *)');
const send: (fd: number, bytes: Buffer, count: number, flags: number) => number = libc.func(
  'int64_t send(int, const void *, size_t, int)',
);
const recvFunction = libc.func('int64_t recv(int, void *, size_t, int)');

const ETH_P_IP = 0x0800;

/** Of all IPv4 that passes a device, with a struct virtio_net_hdr before every packet. */
function packetSocket(device: string): number {
  const [AF_PACKET, SOCK_RAW, SOL_PACKET, PACKET_VNET_HDR] = [17, 3, 263, 15];
  const address = Buffer.alloc(20);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16BE(ETH_P_IP, 2);
  address.writeInt32LE(nameToIndex(device), 4);
  const fd = socket(AF_PACKET, SOCK_RAW, address.readUInt16LE(2));
  const one = Buffer.from([1, 0, 0, 0]);
  if (fd < 0 || setOption(fd, SOL_PACKET, PACKET_VNET_HDR, one, 4) < 0 || bind(fd, address, address.length) < 0)
    throw new Error(`a packet socket on ${device}: errno ${koffi.errno()}`);
  return fd;
}

async function receiveSctp(fd: number): Promise<Buffer> {
  for (;;) {
    const bytes = Buffer.alloc(2048);
    const size = await new Promise<bigint | number>((resolve, reject) =>
      recvFunction.async(fd, bytes, bytes.length, 0, (error: Error | null, got: bigint | number) =>
        error ? reject(error) : resolve(got),
      ),
    );
    const packet = bytes.subarray(10, Number(size));
    if (packet[14 + 9] === 132) return packet.subarray(34);
  }
}
