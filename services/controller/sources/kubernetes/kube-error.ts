import { type Fields, isFields } from '@octoplane/model/findings.ts';

export type KubeErrorCode =
  /** Nobody answers, or the connection broke. */
  | 'UNREACHABLE'
  /** It was reached, but says nothing any more. */
  | 'SILENT'
  /** There are no credentials to be had: the kubeconfig, a file or a plugin fails. */
  | 'CREDENTIALS'
  /** 401: the credentials are not, or no longer, taken. */
  | 'UNAUTHORIZED'
  /** 403: RBAC does not allow it. */
  | 'FORBIDDEN'
  | 'NOT_FOUND'
  /** 409 AlreadyExists. */
  | 'EXISTS'
  /** 409: somebody else wrote in the meantime. */
  | 'CONFLICT'
  /** 410: the resourceVersion or the continue token is too old. */
  | 'GONE'
  /** 504: the server has not come as far as the resourceVersion. It lags, or was restored from a backup. */
  | 'AHEAD'
  /** 429, or 503 with Retry-After: later. */
  | 'BUSY'
  /** Other 4xx: the request is wrong, and would be again. */
  | 'REFUSED'
  /** 5xx. */
  | 'SERVER'
  /** It answers, but not as an API server does. */
  | 'PROTOCOL'
  /** The caller gave up. */
  | 'ABORTED';

export interface KubeErrorDetails {
  /** Before that, the server does not want to be asked again. */
  readonly retryAfterMs?: number | null;
  /** Of a Status: "Expired", "ResourceVersionTooLarge" ... */
  readonly reason?: string;
}

export class KubeError extends Error {
  override readonly name = 'KubeError';
  readonly code: KubeErrorCode;
  readonly retryAfterMs: number | null;
  readonly reason: string;

  constructor(code: KubeErrorCode, message: string, options: KubeErrorDetails & ErrorOptions = {}) {
    super(message, options);
    this.code = code;
    this.retryAfterMs = options.retryAfterMs ?? null;
    this.reason = options.reason ?? '';
  }
}

/** What a request was: as messages call it. "GET /api/v1/nodes of https://10.0.0.1:6443". */
export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly server: string;
}

/** An answer that is no success, or the object of an ERROR event, to a sentence: once, here. `body`: of a Status, if it is one. */
export function fromStatus(code: number, body: unknown, retryAfter: string | null, asked: Asked): KubeError {
  const status: Fields = isFields(body) && body['kind'] === 'Status' ? body : {};
  const reason = textOf(status['reason']);
  const details = isFields(status['details']) ? status['details'] : {};
  const retryAfterMs = secondsOf(retryAfter ?? details['retryAfterSeconds']);
  const said = textOf(status['message']).slice(0, 500) || `HTTP ${code}`;
  const kind = /Too large resource version/.test(said) ? 'AHEAD' : codeOf(code, reason, retryAfterMs);
  const message = `${asked.server} answers ${code} to ${asked.method} ${asked.path}: ${said}${remedies[kind] ?? ''}`;
  return new KubeError(kind, message, { reason, retryAfterMs });
}

const remedies: Readonly<Partial<Record<KubeErrorCode, string>>> = {
  UNAUTHORIZED: '; renew the credentials in the kubeconfig',
  FORBIDDEN: '; apply deploy/kubernetes/rbac.yaml for this user',
};

function codeOf(code: number, reason: string, retryAfterMs: number | null): KubeErrorCode {
  if (reason === 'AlreadyExists') return 'EXISTS';
  if (code === 401) return 'UNAUTHORIZED';
  if (code === 403) return 'FORBIDDEN';
  if (code === 404) return 'NOT_FOUND';
  if (code === 409) return 'CONFLICT';
  if (code === 410) return 'GONE';
  if (code === 429 || (code >= 500 && retryAfterMs !== null)) return 'BUSY';
  return code >= 500 ? 'SERVER' : 'REFUSED';
}

/** Errors of sockets and TLS. `reason`: what the caller knows of it. */
export function fromErrno(error: unknown, asked: Asked, reason = ''): KubeError {
  if (error instanceof KubeError) return error;
  const said = error instanceof Error ? error.message : String(error);
  const what = `${asked.server} cannot be reached (${said || 'the connection was lost'})`;
  return new KubeError('UNREACHABLE', what, { cause: error, reason });
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Seconds as a number or as HTTP has them; dates are not used by API servers. */
function secondsOf(value: unknown): number | null {
  const seconds = typeof value === 'string' && value !== '' ? Number(value) : value;
  return typeof seconds === 'number' && Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : null;
}
