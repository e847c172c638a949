import { describe, expect, it } from 'vitest';
import { chunkTypes, crc32c, decodeSctp, encodeSctp, type SctpChunk } from './sctp-packet.ts';

describe('sctp packets', () => {
  it('have the checksum of RFC 3720, appendix B.4', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  });

  const chunks: SctpChunk[] = [
    { type: chunkTypes.init, tag: 0xdeadbeef },
    { type: chunkTypes.initAck, tag: 7, cookie: Buffer.from('pod-1a 10.244.1.10 40000') },
    { type: chunkTypes.cookieEcho, cookie: Buffer.from('odd') },
    { type: chunkTypes.cookieAck },
  ];
  it.each(chunks)('come back as they were: chunk $type', (chunk) => {
    const packet = { sourcePort: 40_000, destinationPort: 80, verificationTag: 0xffffffff, chunk };
    expect(decodeSctp(encodeSctp(packet))).toEqual(packet);
  });

  it('with a flipped bit are refused', () => {
    const bytes = encodeSctp({
      sourcePort: 1,
      destinationPort: 2,
      verificationTag: 3,
      chunk: { type: chunkTypes.init, tag: 4 },
    });
    bytes.writeUInt8(bytes.readUInt8(20) ^ 1, 20);
    expect(decodeSctp(bytes)).toBeNull();
  });
});
