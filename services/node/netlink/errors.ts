import { constants } from 'node:os';

/** A refusal by the kernel, or by a system call on the way to it. */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError';
  /** "ENOENT". */
  readonly code: string;
  /** Positive. */
  readonly errno: number;
  /** What the kernel itself said (NLMSGERR_ATTR_MSG), or empty. */
  readonly explanation: string;
  /** Of the message refused; -1 when none in particular was. */
  readonly sequence: number;
  /** Of the attribute at fault, in bytes from the start of that message; -1: not told. */
  readonly offset: number;
  constructor(what: string, errno: number, at: { explanation?: string; sequence?: number; offset?: number } = {}) {
    const code = errnoName(errno);
    super(`${what}: ${code}${at.explanation ? ` (${at.explanation})` : ''}${hint(code)}`);
    this.code = code;
    this.errno = errno;
    this.explanation = at.explanation ?? '';
    this.sequence = at.sequence ?? -1;
    this.offset = at.offset ?? -1;
  }
}

const names = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]));

const errnoName = (errno: number): string => names.get(errno) ?? `errno ${errno}`;

const hint = (code: string): string =>
  code === 'EPERM' ? '; run as root or with CAP_NET_ADMIN in this network namespace' : '';
