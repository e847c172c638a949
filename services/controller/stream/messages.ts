import { bucketCount } from '@octoplane/model/digest.ts';
import { type Plan_Kind, StreamRequest, StreamResponse } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { InputRevision } from '../compute/batch.ts';
import type { Version } from '../history/history.ts';
import { StreamError } from './stream-error.ts';

export type Request = NonNullable<StreamRequest['message']>;

const maxHelloBytes = 64 * 1024;
/** A Nack may name thousands of entries and what is held of them; the gRPC server refuses what is larger before it is here. */
export const maxRequestBytes = 1024 * 1024;
const maxInputs = 1024;
const nodeNameForm = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

/** @throws StreamError for what no honest peer sends. */
export function decodeRequest(bytes: Buffer): Request {
  const { message } = decode(bytes);
  if (message === undefined)
    throw new StreamError('unknown', 'a message that this controller does not know; upgrade it before its nodes');
  if (message.$case === 'hello') {
    if (bytes.length > maxHelloBytes) throw new StreamError('invalid', `a Hello of ${bytes.length} bytes`);
    if (!nodeNameForm.test(message.value.nodeName))
      throw new StreamError('invalid', 'node_name is not a DNS subdomain');
    if (message.value.schema < 1) throw new StreamError('invalid', 'schema is not set');
    if (message.value.inputs.length > maxInputs) throw new StreamError('invalid', 'too many inputs');
    if (message.value.digest.length !== 0 && message.value.digest.length !== 8)
      throw new StreamError('invalid', 'digest is not 8 bytes');
  }
  if (message.$case === 'bucketDigests' && message.value.digests.length !== bucketCount * 8)
    throw new StreamError('invalid', `${message.value.digests.length} bytes of bucket digests, not ${bucketCount * 8}`);
  return message;
}

function decode(bytes: Buffer): StreamRequest {
  try {
    return StreamRequest.decode(bytes);
  } catch (cause) {
    throw new StreamError('invalid', 'not a StreamRequest', { cause });
  }
}

export interface PlanFields {
  readonly kind: Plan_Kind;
  readonly head: Version;
  readonly nodeClass: string;
  readonly reconnectSpreadMs: number;
  readonly inputs: readonly InputRevision[];
  readonly release: string;
}

export const encodePlan = (plan: PlanFields): Buffer => encode({ $case: 'plan', value: plan });

export const encodeNodeState = (leaving: boolean): Buffer => encode({ $case: 'nodeState', value: { leaving } });

export const encodeMove = (to: string, reason: string): Buffer => encode({ $case: 'move', value: { to, reason } });

const encode = (message: StreamResponse['message']): Buffer => {
  const bytes = StreamResponse.encode({ message }).finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
};
