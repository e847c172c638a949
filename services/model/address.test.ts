import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalIp, cidrContains, familyOf, formatCidr, ipFromBytes, ipToBytes, parseCidr } from './address.ts';

const v4 = fc.ipV4();
const v6 = fc.ipV6();

describe('canonical text', () => {
  test('is the same for the same address, and leads back to it', () => {
    fc.assert(
      fc.property(fc.oneof(v4, v6), (text) => {
        const ip = canonicalIp(text);
        if (ip === null) return;
        expect(canonicalIp(ip)).toBe(ip);
        expect(canonicalIp(text.toUpperCase())).toBe(ip);
        expect(ipFromBytes(ipToBytes(ip))).toBe(ip);
        expect(ipToBytes(ip)).toHaveLength(familyOf(ip) === 'IPv4' ? 4 : 16);
      }),
      { numRuns: 1000 },
    );
  });

  test('bytes that make an address lead back to themselves', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        const ip = ipFromBytes(bytes);
        if (ip !== null) expect(ipToBytes(ip)).toEqual(bytes);
      }),
      { numRuns: 1000 },
    );
  });

  test.each([
    ['10.0.0.1', '10.0.0.1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8:0:1:0:0:0:1', '2001:db8:0:1::1'],
    ['::', '::'],
    ['::ffff:10.0.0.1', null],
    ['fe80::1%eth0', null],
    ['010.0.0.1', null],
    ['10.0.0.256', null],
    ['10.0.0.1 ', null],
    ['web', null],
    ['', null],
  ])('%s', (text, expected) => {
    expect(canonicalIp(text)).toBe(expected);
  });
});

describe('networks', () => {
  test('contain their own address, and what differs behind their length alone', () => {
    fc.assert(
      fc.property(fc.oneof(v4, v6), fc.nat(128), fc.nat(127), (text, length, bit) => {
        const ip = canonicalIp(text);
        const cidr = ip === null ? null : parseCidr(`${ip}/${length}`);
        if (ip === null || cidr === null) return;
        expect(cidrContains(cidr, ip)).toBe(true);
        expect(parseCidr(formatCidr(cidr))).toEqual(cidr);
        const bytes = ipToBytes(ip);
        const at = bit % (bytes.length * 8);
        bytes[at >> 3] = (bytes[at >> 3] ?? 0) ^ (0x80 >> (at & 7));
        const other = ipFromBytes(bytes);
        if (other !== null) expect(cidrContains(cidr, other)).toBe(at >= cidr.length);
      }),
      { numRuns: 1000 },
    );
  });

  test.each(['10.0.0.0', '10.0.0.0/33', '10.0.0.0/08', '10.0.0.0/-1', '::/129', '/8', '10.0.0/8'])(
    '%s is none',
    (text) => {
      expect(parseCidr(text)).toBeNull();
    },
  );

  test('do not contain the other family', () => {
    const all = parseCidr('0.0.0.0/0');
    expect(all && cidrContains(all, '::1')).toBe(false);
  });
});
