import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { type Digest, digestToBytes } from '@octoplane/model/digest.ts';
import { ServicePortChange } from '@octoplane/model/gen/octoplane/v1/rules.ts';
import { Frame, type InputRevision, type Repair } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { Version } from '../history/history.ts';

/**
 * Frames as bytes that many nodes share.
 *
 * A serialised protobuf message may be put together from pieces: fields in any order, repeated fields in several runs. So a
 * change is encoded once, a frame's parts once per (class, from, to), and what differs per node, the digest, is appended as the
 * last field (15). It has a fixed size, so even the length prefix of the enclosing StreamResponse is shared.
 */
export interface UnsealedFrame {
  /** Whole messages, each with `more`. */
  readonly before: readonly Buffer[];
  /** The last message but for its digest. */
  readonly last: Buffer;
}

/** One message's worth of a frame. */
export interface PartBody {
  /** From encodeChange. */
  readonly changes: readonly Buffer[];
  readonly repair: Repair | undefined;
}

export interface FrameTail {
  readonly committedAtUs: number;
  readonly traceparents: readonly string[];
  readonly inputs: readonly InputRevision[];
}

/** Limit of stream.proto, less what a part carries beside its changes. */
export const maxChangesBytes = 256 * 1024 - 16 * 1024;

const frameField = { changes: 3, digest: 15 } as const;
const responseField = { frame: 2 } as const;
const delimited = (field: number): number => (field << 3) | 2;
/** Tag, length and 8 bytes. */
const digestFieldBytes = 10;

/** One element of Frame.changes, tag and length included. */
export function encodeChange(change: ServicePortChange): Buffer {
  const writer = new BinaryWriter().uint32(delimited(frameField.changes));
  return asBuffer(ServicePortChange.encode(change, writer.fork()).join().finish());
}

/** Groups encoded changes so that each group fits one message, unless a single change does not. At least one group. */
export function cut(changes: Iterable<Buffer>): Buffer[][] {
  let group: Buffer[] = [];
  const groups = [group];
  let size = 0;
  for (const change of changes) {
    if (size > 0 && size + change.length > maxChangesBytes) {
      group = [];
      groups.push(group);
      size = 0;
    }
    group.push(change);
    size += change.length;
  }
  return groups;
}

/** `from` null: any (a repair). At least one body. */
export function encodeFrame(
  from: Version | null,
  to: Version,
  bodies: readonly PartBody[],
  tail: FrameTail,
): UnsealedFrame {
  const parts = bodies.map(({ changes, repair }, i) => {
    const isLast = i === bodies.length - 1;
    const rest = Frame.encode({
      from: from ?? undefined,
      to,
      changes: [],
      repair,
      more: !isLast,
      committedAtUs: isLast ? tail.committedAtUs : 0,
      traceparents: isLast ? tail.traceparents : [],
      inputs: isLast ? tail.inputs : [],
      digest: Buffer.alloc(0),
    }).finish();
    return responseOf([rest, ...changes], isLast ? digestFieldBytes : 0);
  });
  const last = parts.pop();
  if (!last) throw new RangeError('a frame has at least one part');
  return { before: parts, last };
}

/** The whole frame, with its digest. */
export function seal({ before, last }: UnsealedFrame, digest: Digest): readonly Buffer[] {
  const tag = Buffer.of(delimited(frameField.digest), 8);
  return [...before, Buffer.concat([last, tag, digestToBytes(digest)])];
}

/** Bytes on the wire, sealed. */
export const sizeOf = ({ before, last }: UnsealedFrame): number =>
  before.reduce((sum, { length }) => sum + length, last.length + digestFieldBytes);

/** A StreamResponse with a frame of these pieces; `reserved` bytes are still to be appended. */
function responseOf(pieces: readonly Uint8Array[], reserved: number): Buffer {
  const length = pieces.reduce((sum, piece) => sum + piece.length, reserved);
  const prefix = new BinaryWriter().uint32(delimited(responseField.frame)).uint32(length).finish();
  return Buffer.concat([prefix, ...pieces]);
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
