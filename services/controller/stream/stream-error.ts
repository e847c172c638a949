import { status } from '@grpc/grpc-js';

/** Why the controller ends a stream; the statuses that stream.proto names. */
export class StreamError extends Error {
  override readonly name = 'StreamError';
  readonly code: StreamErrorCode;
  constructor(code: StreamErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  get grpcStatus(): status {
    return grpcStatuses[this.code];
  }
}

const grpcStatuses = {
  /** A message that cannot be one. */
  invalid: status.INVALID_ARGUMENT,
  /** A message out of sequence, or a claim about what was never sent. */
  'out-of-sequence': status.FAILED_PRECONDITION,
  /** The peer's certificate does not carry the name. */
  denied: status.PERMISSION_DENIED,
  /** A member of a oneof that this release does not know. */
  unknown: status.UNIMPLEMENTED,
  /** The same node opened a newer stream. */
  replaced: status.ABORTED,
  /** The controller goes away. */
  unavailable: status.UNAVAILABLE,
  /** The peer said nothing where it must. */
  silent: status.DEADLINE_EXCEEDED,
  internal: status.INTERNAL,
} as const;

export type StreamErrorCode = keyof typeof grpcStatuses;
