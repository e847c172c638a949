export type StartErrorCode =
  | 'LISTEN_ADDRESS'
  | 'PORT_IN_USE'
  | 'TLS_FILES'
  | 'TLS_REQUIRED'
  | 'INSECURE_REMOTE'
  | 'SOURCE'
  | 'STATE_DIR'
  | 'OPTIONS';

/** The controller cannot start as configured; the message is one sentence that says what is wrong and what to do. */
export class StartError extends Error {
  override readonly name = 'StartError';
  readonly code: StartErrorCode;
  constructor(code: StartErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
