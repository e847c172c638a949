import { type Fields, isFields } from '@octoplane/model/findings.ts';
import type { Logger } from 'pino';
import type { Cancel, Clock } from '../clock.ts';
import { Backoff } from '../sources/backoff.ts';
import type { KubeClient } from '../sources/kubernetes/kube-client.ts';
import { KubeError } from '../sources/kubernetes/kube-error.ts';
import { pathOf } from '../sources/kubernetes/resource-path.ts';
import type { Leader, Term } from './leader.ts';

export interface KubeLeaderOptions {
  readonly client: KubeClient;
  /** Of this process, and of no other. */
  readonly identity: string;
  /** How long nobody leads after a leader vanished, at most. Default 15 s, as Kubernetes' own controllers have it: it outlasts a restart of the API server. */
  readonly leaseSeconds?: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

const leases = { group: 'coordination.k8s.io', version: 'v1', plural: 'leases' };
const namespace = 'kube-system';
const name = 'octoplane-controller';

/** What the Lease said when it was last seen to change, and when that was on our own clock. */
interface Seen {
  readonly resourceVersion: string;
  readonly atUs: number;
}

/**
 * By a Lease of coordination.k8s.io. Somebody else's is taken over when it has not changed for as long as it is good, counted from when the
 * change was seen here: times that others wrote are not compared with our clock. Every write names the resourceVersion it
 * replaces, so that of two who try one succeeds. The API server checks no lease on other writes: a term ends here at two thirds of the
 * time after which another would take over, and what was sent before that is done by then or given up.
 */
export class KubeLeader implements Leader {
  readonly place = `Lease ${namespace}/${name}`;
  readonly #options: Required<KubeLeaderOptions>;
  #seen: Seen | null = null;

  constructor(options: KubeLeaderOptions) {
    this.#options = { leaseSeconds: 15, ...options };
  }

  async lead(work: (term: Term) => Promise<void>, signal: AbortSignal): Promise<void> {
    const { clock, leaseSeconds, logger } = this.#options;
    const backoff = new Backoff(clock);
    while (!signal.aborted) {
      try {
        const sentAtUs = clock.nowUs();
        const version = await this.#acquire(signal);
        backoff.reset();
        if (version !== null) await this.#term({ version, sentAtUs }, work, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof KubeError)) throw error;
        if (error.code !== 'CONFLICT' && error.code !== 'EXISTS')
          logger.warn({ place: this.place, reason: error.message }, 'does not lead');
      }
      await backoff.wait(signal, (leaseSeconds * 1000) / 8);
    }
  }

  /** The resourceVersion of the Lease that is ours; null: somebody else's is good. */
  async #acquire(signal: AbortSignal): Promise<string | null> {
    const { client, clock, identity, leaseSeconds } = this.#options;
    const found = await this.#read(signal);
    if (found === null) return versionOf(await client.create(pathOf(leases, { namespace }), this.#lease(null), signal));
    const spec = isFields(found['spec']) ? found['spec'] : {};
    const holder = String(spec['holderIdentity'] ?? '');
    const version = versionOf(found);
    if (this.#seen?.resourceVersion !== version) this.#seen = { resourceVersion: version, atUs: clock.nowUs() };
    const goodMs = Math.max(Number(spec['leaseDurationSeconds'] ?? 0), leaseSeconds) * 1000;
    const isGood = holder !== '' && holder !== identity && (clock.nowUs() - this.#seen.atUs) / 1000 < goodMs;
    if (isGood) return null;
    return versionOf(await client.update(pathOf(leases, { namespace, name }), this.#lease(found), signal));
  }

  async #term(
    first: { readonly version: string; readonly sentAtUs: number },
    work: (term: Term) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, leaseSeconds, identity, logger } = this.#options;
    const over = new AbortController();
    const term = AbortSignal.any([signal, over.signal]);
    let expiry: Cancel = () => undefined;
    let renewal: Cancel = () => undefined;
    const extend = (sentAtUs: number): void => {
      expiry();
      const leftMs = (leaseSeconds * 1000 * 2) / 3 - (clock.nowUs() - sentAtUs) / 1000;
      expiry = clock.after(Math.max(0, leftMs), () => over.abort());
    };
    const renewLater = (): void => {
      renewal = clock.after((leaseSeconds * 1000) / 6, async () => {
        const sentAtUs = clock.nowUs();
        try {
          if ((await this.#acquire(term)) === null) over.abort();
          else if (!term.aborted) extend(sentAtUs);
        } catch (error) {
          // The next try may do better; the expiry stands.
          if (!(error instanceof KubeError)) throw error;
        }
        if (!term.aborted) renewLater();
      });
    };
    extend(first.sentAtUs);
    renewLater();
    logger.info({ place: this.place, identity }, 'leads');
    try {
      await work({ signal: term });
    } finally {
      expiry();
      renewal();
      logger.info({ place: this.place, identity }, 'leads no more');
      if (!over.signal.aborted) await this.#giveBack();
      over.abort();
    }
  }

  /** So that the next one need not wait. */
  async #giveBack(): Promise<void> {
    const signal = AbortSignal.timeout(2_000);
    try {
      const found = await this.#read(signal);
      const spec = found && isFields(found['spec']) ? found['spec'] : {};
      if (!found || spec['holderIdentity'] !== this.#options.identity) return;
      await this.#options.client.update(
        pathOf(leases, { namespace, name }),
        { ...found, spec: { ...spec, holderIdentity: '' } },
        signal,
      );
    } catch (error) {
      // Nobody renews it any more: it runs out by itself.
      if (!(error instanceof KubeError)) throw error;
    }
  }

  async #read(signal: AbortSignal): Promise<Fields | null> {
    try {
      return await this.#options.client.get(pathOf(leases, { namespace, name }), signal);
    } catch (error) {
      if (error instanceof KubeError && error.code === 'NOT_FOUND') return null;
      throw error;
    }
  }

  /** `before`: as it is; null: there is none. Times are for people. */
  #lease(before: Fields | null): Fields {
    const { clock, identity, leaseSeconds } = this.#options;
    const now = new Date(clock.nowUs() / 1000).toISOString().replace('Z', '000Z');
    const spec = before && isFields(before['spec']) ? before['spec'] : {};
    const isOurs = spec['holderIdentity'] === identity;
    return {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      ...(before ?? { metadata: { namespace, name } }),
      spec: {
        ...spec,
        holderIdentity: identity,
        leaseDurationSeconds: leaseSeconds,
        renewTime: now,
        acquireTime: isOurs ? (spec['acquireTime'] ?? now) : now,
        leaseTransitions: Number(spec['leaseTransitions'] ?? -1) + (isOurs ? 0 : 1),
      },
    };
  }
}

function versionOf(manifest: Fields): string {
  const metadata = isFields(manifest['metadata']) ? manifest['metadata'] : {};
  return String(metadata['resourceVersion'] ?? '');
}
