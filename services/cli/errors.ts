import { CommanderError } from 'commander';

/** 0 success, 1 failure, 2 usage. */
export type ExitCode = 0 | 1 | 2;

/** A failure in the words of its user: what was wrong, and what to do. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: ExitCode;
  constructor(message: string, options: { exitCode?: ExitCode; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.exitCode = options.exitCode ?? 1;
  }
}

export const usageError = (message: string): CliError => new CliError(message, { exitCode: 2 });

/** Commander ends --help and --version by throwing, with exit code 0; everything else that it throws is usage. */
export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  return error instanceof CliError ? error.exitCode : 1;
}

/** One line for what is expected to go wrong; a stack only for what is not. */
export function reportError(error: unknown, stderr: NodeJS.WritableStream): void {
  if (error instanceof CommanderError) return; // Commander has written its own message.
  stderr.write(`octoplane: ${isExpected(error) ? error.message : describeBug(error)}\n`);
}

/** CliError, and the services' StartError, which carries a code and a sentence. */
const isExpected = (error: unknown): error is Error =>
  error instanceof CliError || (error instanceof Error && error.name === 'StartError');

const describeBug = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : `failed with ${String(error)}`;
