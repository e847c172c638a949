import type { ServiceError } from '@grpc/grpc-js';
import {
  LeaseGrantRequest,
  type LeaseGrantResponse,
  type LeaseKeepAliveResponse,
  LeaseRevokeRequest,
  type LeaseRevokeResponse,
} from '@octoplane/model/gen/etcd/etcdserverpb/rpc.ts';
import type { Cancel, Clock } from '../../clock.ts';
import type { EtcdClient } from './etcd-client.ts';
import { EtcdError, fromServiceError } from './etcd-error.ts';
import type { EtcdMembers } from './members.ts';

export interface LeaseOptions {
  /** How long etcd keeps what hangs on the lease after the last sign of life, seconds. */
  readonly ttlSeconds: number;
  readonly clock: Clock;
}

export interface Lease {
  readonly id: string;
  /** Aborted once the lease may be gone; what hangs on it may then be somebody else's. */
  readonly signal: AbortSignal;
}

/**
 * Does `work` under a lease, which is kept alive meanwhile and given back at the end, whatever the end is.
 *
 * The lease is counted as lost a full time to live after the last renewal was *sent*, on our own monotonic clock: etcd counts from
 * when it received it, which was later. So we never believe in it for longer than etcd does, whatever the wall clocks say.
 *
 * @throws EtcdError when no lease is given; otherwise what `work` throws.
 */
export async function underLease<T>(
  members: EtcdMembers,
  { ttlSeconds, clock }: LeaseOptions,
  work: (lease: Lease) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const askedAtUs = clock.nowUs();
  const { id, ttl } = await members.use((client) => grantLease(client, ttlSeconds, signal));
  const lost = new AbortController();
  let expiry: Cancel = () => undefined;
  let renewal: Cancel = () => undefined;
  let goodUntilUs = 0;
  const lose = (reason: string): void => lost.abort(new EtcdError('UNAVAILABLE', reason));
  const extend = (sentAtUs: number, seconds: number): void => {
    goodUntilUs = sentAtUs + seconds * 1_000_000;
    expiry();
    const leftMs = (goodUntilUs - clock.nowUs()) / 1000;
    expiry = clock.after(Math.max(0, leftMs), () => lose(`etcd did not renew the lease for ${seconds} s`));
  };
  const renewLater = (): void => {
    renewal = clock.after((ttl * 1000) / 3, async () => {
      const sentAtUs = clock.nowUs();
      try {
        const seconds = await members.use((client) => renewLease(client, id, (ttl * 1000) / 3, lost.signal));
        if (seconds === 0) lose('etcd has no such lease any more');
        else if (!lost.signal.aborted) extend(sentAtUs, seconds);
      } catch (error) {
        // The next try may do better; the expiry stands.
        if (!(error instanceof EtcdError)) throw error;
      }
      if (!lost.signal.aborted) renewLater();
    });
  };
  extend(askedAtUs, ttl);
  renewLater();
  try {
    return await work({ id, signal: AbortSignal.any([signal, lost.signal]) });
  } finally {
    expiry();
    renewal();
    const wasLost = lost.signal.aborted;
    lost.abort();
    if (!wasLost) await giveBack(members, id);
  }
}

/** What hangs on the lease goes at once instead of when it runs out. */
async function giveBack(members: EtcdMembers, id: string): Promise<void> {
  try {
    await members.use((client) => revokeLease(client, id));
  } catch (error) {
    // Nobody renews it any more: it runs out by itself.
    if (!(error instanceof EtcdError)) throw error;
  }
}

async function grantLease(client: EtcdClient, seconds: number, signal: AbortSignal) {
  const request = LeaseGrantRequest.create({ TTL: seconds });
  const { ID, TTL } = await client.unary<LeaseGrantRequest, LeaseGrantResponse>(
    (...call) => client.leaseClient.leaseGrant(...call),
    request,
    signal,
  );
  return { id: ID, ttl: TTL };
}

async function revokeLease(client: EtcdClient, id: string): Promise<void> {
  const request = LeaseRevokeRequest.create({ ID: id });
  await client.unary<LeaseRevokeRequest, LeaseRevokeResponse>(
    (...call) => client.leaseClient.leaseRevoke(...call),
    request,
    AbortSignal.timeout(2_000),
  );
}

/** Seconds that it lives from now on; 0: there is no such lease. A stream for one question: renewals are far apart. */
function renewLease(client: EtcdClient, id: string, withinMs: number, signal: AbortSignal): Promise<number> {
  const { address } = client.endpoint;
  return new Promise((resolve, reject) => {
    const stream = client.leaseClient.leaseKeepAlive({ deadline: new Date(Date.now() + withinMs) });
    const abort = (): void => stream.cancel();
    signal.addEventListener('abort', abort, { once: true });
    const settle = (act: () => void): void => {
      signal.removeEventListener('abort', abort);
      act();
      stream.cancel();
    };
    stream.once('data', ({ TTL }: LeaseKeepAliveResponse) => settle(() => resolve(TTL)));
    stream.on('error', (error: ServiceError) => settle(() => reject(fromServiceError(error, address))));
    stream.once('end', () =>
      settle(() => reject(new EtcdError('UNAVAILABLE', `etcd at ${address} did not answer a renewal`))),
    );
    stream.write({ ID: id });
  });
}
