import { RangeRequest } from '@octoplane/model/gen/etcd/etcdserverpb/rpc.ts';
import type { Logger } from 'pino';
import { type Clock, pause } from '../clock.ts';
import { Backoff } from '../sources/backoff.ts';
import type { EtcdClient } from '../sources/etcd/etcd-client.ts';
import { EtcdError } from '../sources/etcd/etcd-error.ts';
import { leaderKey } from '../sources/etcd/layout.ts';
import { type Lease, underLease } from '../sources/etcd/lease.ts';
import type { EtcdMembers } from '../sources/etcd/members.ts';
import { type Condition, createdAt, put, says } from '../sources/etcd/transactions.ts';
import type { Leader, Term } from './leader.ts';

export interface EtcdLeaderOptions {
  readonly members: EtcdMembers;
  /** Of this process, and of no other. */
  readonly identity: string;
  /** How long nobody leads after a leader vanished, at most. Default 5 s: longer than etcd takes to elect its own leader. */
  readonly ttlSeconds?: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Holds while the controller of this identity leads in that etcd. */
export const leads = (identity: string): Condition => says(leaderKey, identity);

/** By a key that exists once, under a lease. A write whose transaction asks for the key fails in etcd itself once the term is over (leads). */
export class EtcdLeader implements Leader {
  readonly place = `etcd ${leaderKey}`;
  readonly #options: Required<EtcdLeaderOptions>;

  constructor(options: EtcdLeaderOptions) {
    this.#options = { ttlSeconds: 5, ...options };
  }

  async lead(work: (term: Term) => Promise<void>, signal: AbortSignal): Promise<void> {
    const { members, clock, ttlSeconds, logger } = this.#options;
    const backoff = new Backoff(clock);
    while (!signal.aborted) {
      try {
        await underLease(members, { ttlSeconds, clock }, (lease) => this.#term(lease, work), signal);
        backoff.reset();
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof EtcdError)) throw error;
        logger.warn({ place: this.place, reason: error.message }, 'does not lead');
      }
      await backoff.wait(signal);
    }
  }

  /** Waits for the key, leads while the lease lasts. */
  async #term(lease: Lease, work: (term: Term) => Promise<void>): Promise<void> {
    const { members, clock, identity, ttlSeconds, logger } = this.#options;
    while (!(await members.use((client) => take(client, identity, lease))))
      await pause(clock, (ttlSeconds * 1000) / 5, lease.signal);
    logger.info({ place: this.place, identity }, 'leads');
    try {
      await work({ signal: lease.signal });
    } finally {
      logger.info({ place: this.place, identity }, 'leads no more');
    }
    if (lease.signal.aborted) throw lease.signal.reason;
  }
}

/** False: somebody else has the key. */
async function take(client: EtcdClient, identity: string, lease: Lease): Promise<boolean> {
  const { succeeded } = await client.txn(
    { compare: [createdAt(leaderKey, 0)], success: [put(leaderKey, identity, lease.id)], failure: [] },
    lease.signal,
  );
  if (succeeded) return true;
  // An answer that was lost on its way: the key is there, and it is ours.
  const { kvs } = await client.range(RangeRequest.create({ key: Buffer.from(leaderKey) }), lease.signal);
  return kvs[0]?.lease === lease.id;
}
