import type { ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';

/** How bytes leave the stand-in; every answer may be treated differently. */
export interface Transmission {
  /** At most so many bytes at a time, each as a chunk of its own. Null: as they come. */
  readonly pieceBytes: number | null;
  /** The connection is cut after this share of the answer. Null: it is not. */
  readonly cutAt: number | null;
}

/** API servers compress answers that are larger than this, when asked to, and no watches. */
const gzipFrom = 128 * 1024;

export function sendWhole(
  response: ServerResponse,
  code: number,
  body: Buffer,
  headers: Readonly<Record<string, string>>,
  transmission: Transmission,
  gzip: boolean,
): void {
  const compress = gzip && body.length > gzipFrom;
  const bytes = compress ? gzipSync(body, { level: 1 }) : body;
  response.writeHead(code, {
    'Content-Type': 'application/json',
    ...headers,
    ...(compress ? { 'Content-Encoding': 'gzip' } : {}),
  });
  if (transmission.cutAt === null) {
    writePieces(response, bytes, transmission.pieceBytes);
    response.end();
    return;
  }
  writePieces(response, bytes.subarray(0, Math.floor(bytes.length * transmission.cutAt)), transmission.pieceBytes);
  // What was written leaves before the connection does.
  response.write('', () => response.destroy());
}

export function writePieces(response: ServerResponse, bytes: Buffer, pieceBytes: number | null): void {
  if (pieceBytes === null) {
    response.write(bytes);
    return;
  }
  for (let at = 0; at < bytes.length; at += pieceBytes) response.write(bytes.subarray(at, at + pieceBytes));
}
