import { getSystemErrorMap } from 'node:util';
import { DriverError } from '../driver.ts';

/** A call that the kernel refused. `code` is the errno's name; the message says what was asked for and what to do. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  readonly code: string;
  constructor(what: string, errno: number) {
    const [code, text] = getSystemErrorMap().get(-errno) ?? [`errno ${errno}`, 'unknown error'];
    super(`${what}: ${text}${advice[code] ?? ''}`);
    this.code = code;
  }
}

const advice: Readonly<Record<string, string>> = {
  EPERM: '. Run with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN (bpffs).',
  ENOMEM:
    ". Maps count against the memory limit of the daemon's cgroup, and against no memlock limit: raise the former.",
};

/** Passes on what libbpf returned, unless it is -errno. */
export function checked(result: number, what: string): number {
  if (result < 0) throw new KernelError(what, -result);
  return result;
}

export const errnos = {
  noEntry: -2,
  noSpace: -28,
  fault: -14,
  exists: -17,
  noLink: -67,
  again: -11,
  tooBig: -7,
  invalid: -22,
} as const;

/** Translates once, where the driver was asked. */
export function asDriverError(error: unknown, torn: boolean): DriverError {
  if (error instanceof DriverError) return error;
  return new DriverError(error instanceof Error ? error.message : String(error), { torn, cause: error });
}
