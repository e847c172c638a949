import type { status } from '@grpc/grpc-js';

/** A request that cannot be answered; the message says why. */
export class AdminError extends Error {
  override readonly name = 'AdminError';
  readonly code: status;
  /** As grpc-js sends it. */
  readonly details: string;
  constructor(code: status, message: string) {
    super(message);
    this.code = code;
    this.details = message;
  }
}
