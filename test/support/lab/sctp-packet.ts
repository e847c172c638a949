/** SCTP packets (RFC 9260, section 3), as much as a handshake needs. Pure. */
export interface SctpPacket {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly verificationTag: number;
  readonly chunk: SctpChunk;
}

export type SctpChunk =
  | { readonly type: typeof chunkTypes.init; readonly tag: number }
  | { readonly type: typeof chunkTypes.initAck; readonly tag: number; readonly cookie: Buffer }
  | { readonly type: typeof chunkTypes.cookieEcho; readonly cookie: Buffer }
  | { readonly type: typeof chunkTypes.cookieAck }
  | { readonly type: typeof chunkTypes.abort };

export const chunkTypes = { init: 1, initAck: 2, abort: 6, cookieEcho: 10, cookieAck: 11 } as const;

const stateCookieParameter = 7;

export function encodeSctp({ sourcePort, destinationPort, verificationTag, chunk }: SctpPacket): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt16BE(sourcePort, 0);
  header.writeUInt16BE(destinationPort, 2);
  header.writeUInt32BE(verificationTag, 4);
  const packet = Buffer.concat([header, encodeChunk(chunk)]);
  packet.writeUInt32LE(crc32c(packet), 8);
  return packet;
}

function encodeChunk(chunk: SctpChunk): Buffer {
  switch (chunk.type) {
    case chunkTypes.init:
      return tlv(chunk.type << 8, initBody(chunk.tag));
    case chunkTypes.initAck:
      return tlv(chunk.type << 8, Buffer.concat([initBody(chunk.tag), tlv(stateCookieParameter, chunk.cookie)]));
    case chunkTypes.cookieEcho:
      return tlv(chunk.type << 8, chunk.cookie);
    default:
      return tlv(chunk.type << 8, Buffer.alloc(0));
  }
}

/** Tag, receive window, one stream each way, first sequence number. */
function initBody(tag: number): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt32BE(tag, 0);
  body.writeUInt32BE(65_536, 4);
  body.writeUInt16BE(1, 8);
  body.writeUInt16BE(1, 10);
  body.writeUInt32BE(1, 12);
  return body;
}

/** 16 bits of head, the length without padding, the value, padding to 4 bytes. */
function tlv(head: number, value: Buffer): Buffer {
  const length = 4 + value.length;
  const bytes = Buffer.alloc((length + 3) & ~3);
  bytes.writeUInt16BE(head, 0);
  bytes.writeUInt16BE(length, 2);
  value.copy(bytes, 4);
  return bytes;
}

/** Null when the checksum is wrong or the first chunk is none of those above. */
export function decodeSctp(packet: Buffer): SctpPacket | null {
  if (packet.length < 16) return null;
  const unsummed = Buffer.from(packet);
  unsummed.writeUInt32LE(0, 8);
  if (crc32c(unsummed) !== packet.readUInt32LE(8)) return null;
  const chunk = decodeChunk(packet.subarray(12));
  if (chunk === null) return null;
  return {
    sourcePort: packet.readUInt16BE(0),
    destinationPort: packet.readUInt16BE(2),
    verificationTag: packet.readUInt32BE(4),
    chunk,
  };
}

function decodeChunk(bytes: Buffer): SctpChunk | null {
  const type = bytes.readUInt8(0);
  const body = bytes.subarray(4, bytes.readUInt16BE(2));
  switch (type) {
    case chunkTypes.init:
      return body.length < 16 ? null : { type, tag: body.readUInt32BE(0) };
    case chunkTypes.initAck: {
      if (body.length < 20 || body.readUInt16BE(16) !== stateCookieParameter) return null;
      return { type, tag: body.readUInt32BE(0), cookie: body.subarray(20, 16 + body.readUInt16BE(18)) };
    }
    case chunkTypes.cookieEcho:
      return { type, cookie: body };
    case chunkTypes.cookieAck:
    case chunkTypes.abort:
      return { type };
    default:
      return null;
  }
}

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  let crc = n;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** RFC 9260, appendix A. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (table[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
