export type StartErrorCode =
  | 'BAD_OPTION'
  | 'NO_DRIVER'
  | 'STATE_DIR'
  | 'PORT_IN_USE'
  | 'NO_PERMISSION'
  | 'TLS_FILES'
  | 'CLEANUP_FAILED';

/** The daemon cannot start. The message is one sentence that says what to do. */
export class StartError extends Error {
  override readonly name = 'StartError';
  readonly code: StartErrorCode;
  readonly exitCode = 1;
  constructor(code: StartErrorCode, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}
