import { canonicalIp } from '@octoplane/model/address.ts';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  backendBytes,
  endpointBytes,
  frontendBytes,
  readBackend,
  readEndpoint,
  readFrontend,
  readRangeKey,
  readService,
  serviceBytes,
  writeBackend,
  writeEndpoint,
  writeFrontend,
  writeRangeKey,
  writeService,
} from './layout.ts';

/** `::ffff:0:0/96` is how IPv4 lies in memory, so no rule set has such an address as IPv6 (model/address.ts). */
const ip = fc
  .oneof(fc.ipV4(), fc.ipV6())
  .map(canonicalIp)
  .filter((text) => text !== null);
const port = fc.integer({ min: 1, max: 65_535 });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });

it('gives endpoints back as they were written', () => {
  fc.assert(
    fc.property(ip, port, fc.constantFrom('TCP', 'UDP', 'SCTP'), (address, number, protocol) => {
      const bytes = Buffer.alloc(endpointBytes, 0xee);
      writeEndpoint(bytes, 0, { ip: address, port: number, protocol });
      expect(readEndpoint(bytes, 0)).toEqual({ ip: address, port: number, protocol });
    }),
  );
});

it('gives backends back as they were written', () => {
  fc.assert(
    fc.property(ip, port, fc.nat(15), u32, (address, number, flags, service) => {
      const bytes = Buffer.alloc(backendBytes, 0xee);
      writeBackend(bytes, 0, { ip: address, port: number, flags, service });
      expect(readBackend(bytes, 0)).toEqual({ ip: address, port: number, flags, service });
    }),
  );
});

it('gives services back as they were written', () => {
  const bytes = Buffer.alloc(serviceBytes, 0xee);
  const record = {
    start: 7,
    count: 3,
    affinitySeconds: 10_800,
    policies: 3,
    usableFamilies: 1,
    generation: 4_000_000_000,
    key: 'default/web:80/TCP',
  };
  writeService(bytes, 0, record);
  expect(readService(bytes, 0)).toEqual(record);
});

it('gives ranges back, IPv4 as IPv4', () => {
  const bytes = Buffer.alloc(24);
  for (const range of ['192.0.2.0/24', '0.0.0.0/0', '2001:db8::/32', '::/0']) {
    const [address = '', bits] = range.split('/');
    writeRangeKey(bytes, 0, 9, address, Number(bits));
    expect(readRangeKey(bytes, 0)).toEqual({ service: 9, range });
  }
});

it('lays a frontend out as structs.h does', () => {
  const key = Buffer.alloc(endpointBytes);
  writeEndpoint(key, 0, { ip: '10.96.0.10', port: 80, protocol: 'TCP' });
  const bytes = Buffer.alloc(frontendBytes, 0xee);
  const value = {
    service: 1,
    inside: { start: 2, count: 3 },
    outside: { start: 4, count: 5 },
    affinitySeconds: 6,
    flags: 7,
    kinds: 8,
    generation: 9,
  };
  writeFrontend(bytes, 0, value, key, 0);
  expect(readFrontend(bytes, 0)).toEqual(value);
  expect(bytes.toString('hex')).toBe(
    // guard: protocol, 0, port, address; then the numbers
    '06000050' +
      '0a60000a' +
      '01000000' +
      '0200000003000000' +
      '0400000005000000' +
      '06000000' +
      '0700' +
      '08' +
      '00' +
      '09000000',
  );
});
