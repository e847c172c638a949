import { type ChannelCredentials, type ClientUnaryCall, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import {
  KVClient,
  LeaseClient,
  type PutRequest,
  type PutResponse,
  type RangeRequest,
  type RangeResponse,
  type ResponseHeader,
  type TxnRequest,
  type TxnResponse,
  WatchClient,
} from '@octoplane/model/gen/etcd/etcdserverpb/rpc.ts';
import type { Endpoint } from './endpoints.ts';
import { EtcdError, fromServiceError } from './etcd-error.ts';

/** A quorum that is there answers within milliseconds, and one that elects a leader within 2 s or so. */
const answerWithinMs = 5_000;

const channelOptions = {
  // A peer that vanished without a FIN, or hangs, is found in 15 s.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.enable_channelz': 0,
  // A question to DNS that nobody here reads, and where nobody answers it a process that is done does not end for many seconds.
  'grpc.service_config_disable_resolution': 1,
  // etcd bounds requests, and so values, at 1.5 MB, but no answers.
  'grpc.max_receive_message_length': -1,
  // Every client has connections of its own, which end with it.
  'grpc.use_local_subchannel_pool': 1,
  // Ours is the back-off, with a choice of member.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.enable_retries': 0,
};

/** In PEM; null: without. */
export interface EtcdTls {
  readonly ca: Buffer | null;
  readonly cert: Buffer | null;
  readonly key: Buffer | null;
}

type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: { readonly deadline: Date },
  done: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/**
 * A connection to one member of an etcd cluster. Thin: it neither retries nor chooses members; who uses it knows what may be
 * done twice. Nothing is connected before the first call.
 */
export class EtcdClient {
  readonly endpoint: Endpoint;
  readonly watchClient: WatchClient;
  readonly leaseClient: LeaseClient;
  readonly kvClient: KVClient;

  constructor(endpoint: Endpoint, tls: EtcdTls | null = null) {
    this.endpoint = endpoint;
    const channel = endpoint.tls ? secured(tls, endpoint) : credentials.createInsecure();
    this.kvClient = new KVClient(endpoint.address, channel, channelOptions);
    const shared = { ...channelOptions, channelOverride: this.kvClient.getChannel() };
    this.watchClient = new WatchClient(endpoint.address, channel, shared);
    this.leaseClient = new LeaseClient(endpoint.address, channel, shared);
  }

  /** @throws EtcdError */
  range(request: RangeRequest, signal: AbortSignal): Promise<RangeResponse> {
    return this.unary<RangeRequest, RangeResponse>((...call) => this.kvClient.range(...call), request, signal);
  }

  /** @throws EtcdError */
  put(request: PutRequest, signal: AbortSignal): Promise<PutResponse> {
    return this.unary<PutRequest, PutResponse>((...call) => this.kvClient.put(...call), request, signal);
  }

  /** @throws EtcdError */
  txn(request: TxnRequest, signal: AbortSignal): Promise<TxnResponse> {
    return this.unary<TxnRequest, TxnResponse>((...call) => this.kvClient.txn(...call), request, signal);
  }

  /** One question, one answer. @throws EtcdError */
  unary<Request, Response>(call: Unary<Request, Response>, request: Request, signal: AbortSignal): Promise<Response> {
    const { address } = this.endpoint;
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(new EtcdError('ABORTED', 'the call was given up'));
        return;
      }
      const cancel = (): void => running.cancel();
      const deadline = new Date(Date.now() + answerWithinMs);
      const running = call(request, new Metadata(), { deadline }, (error, response) => {
        signal.removeEventListener('abort', cancel);
        if (error === null) resolve(response);
        else if (signal.aborted) reject(new EtcdError('ABORTED', 'the call was given up', { cause: error }));
        else reject(fromServiceError(error, address));
      });
      signal.addEventListener('abort', cancel, { once: true });
    });
  }

  close(): void {
    this.kvClient.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function secured(tls: EtcdTls | null, { address }: Endpoint): ChannelCredentials {
  try {
    return credentials.createSsl(tls?.ca, tls?.key, tls?.cert);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new EtcdError('UNAVAILABLE', `the certificates for etcd at ${address} are of no use (${reason})`, { cause });
  }
}

/** Every answer of etcd has a header. @throws EtcdError */
export function headerOf(response: { readonly header?: ResponseHeader | undefined }): ResponseHeader {
  if (response.header) return response.header;
  throw new EtcdError('PROTOCOL', 'an answer came without a header; is it an etcd that answers?');
}
