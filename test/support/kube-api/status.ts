/** An answer that is no success, as an API server words it. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  readonly code: number;
  readonly reason: string;
  readonly retryAfterSeconds: number | null;
  /** Of an expired list: goes on with what is there now. */
  readonly continueToken: string | null;

  constructor(
    code: number,
    reason: string,
    message: string,
    more: { readonly retryAfterSeconds?: number; readonly continueToken?: string } = {},
  ) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.retryAfterSeconds = more.retryAfterSeconds ?? null;
    this.continueToken = more.continueToken ?? null;
  }

  toJson(): object {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: this.continueToken === null ? {} : { continue: this.continueToken },
      status: 'Failure',
      message: this.message,
      reason: this.reason,
      ...(this.retryAfterSeconds === null ? {} : { details: { retryAfterSeconds: this.retryAfterSeconds } }),
      code: this.code,
    };
  }
}

export const badRequest = (message: string): StatusError => new StatusError(400, 'BadRequest', message);
export const invalid = (message: string): StatusError => new StatusError(422, 'Invalid', message);
export const notFound = (what: string): StatusError => new StatusError(404, 'NotFound', `${what} not found`);
export const expired = (revision: number, oldest: number): StatusError =>
  new StatusError(410, 'Expired', `too old resource version: ${revision} (${oldest})`);
