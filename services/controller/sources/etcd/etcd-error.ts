import { type ServiceError, status } from '@grpc/grpc-js';

export type EtcdErrorCode =
  /** Nobody answers, or the member has no leader: another member may do better. */
  | 'UNAVAILABLE'
  /** The revision that was asked for is compacted away. */
  | 'COMPACTED'
  /** The server answers, but not with what its protocol says. */
  | 'PROTOCOL'
  /** The caller gave up. */
  | 'ABORTED'
  /** The server refuses the request; another member would too. */
  | 'REFUSED';

export class EtcdError extends Error {
  override readonly name = 'EtcdError';
  readonly code: EtcdErrorCode;
  constructor(code: EtcdErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** gRPC status to a sentence, once. `address`: who was asked. */
export function fromServiceError(error: ServiceError, address: string): EtcdError {
  return new EtcdError(codeOf(error), messageOf(error, address), { cause: error });
}

function codeOf({ code, details }: ServiceError): EtcdErrorCode {
  if (/has been compacted/.test(details)) return 'COMPACTED';
  switch (code) {
    case status.CANCELLED:
    case status.DEADLINE_EXCEEDED:
    case status.INTERNAL:
    case status.RESOURCE_EXHAUSTED:
    case status.UNAVAILABLE:
    case status.UNKNOWN:
      return /space exceeded|too large/.test(details) ? 'REFUSED' : 'UNAVAILABLE';
    default:
      return 'REFUSED';
  }
}

function messageOf({ code, details }: ServiceError, address: string): string {
  if (/space exceeded/.test(details))
    return `etcd at ${address} is full (${details}); compact and defragment it, and disarm the alarm`;
  if (code === status.UNAUTHENTICATED || code === status.PERMISSION_DENIED || /user name is empty/.test(details))
    return `etcd at ${address} refused (${details}); etcd users are not supported: let it be reached without one`;
  if (code === status.DEADLINE_EXCEEDED) return `etcd at ${address} did not answer in time; see that it has a quorum`;
  return `etcd at ${address}: ${details || 'the connection was lost'}`;
}
