import { familyOf, type Ip } from '@octoplane/model/address.ts';
import type { Fields } from '@octoplane/model/findings.ts';
import type { Protocol, ServiceName } from '@octoplane/model/keys.ts';
import type { Clock } from '../../clock.ts';
import { Backoff } from '../backoff.ts';
import { EtcdError } from './etcd-error.ts';
import { EtcdStore } from './etcd-store.ts';
import { underLease } from './lease.ts';
import type { EtcdMembers } from './members.ts';

/** A workload that speaks for itself: where it is reached, as endpoints of a Service. */
export interface Workload {
  readonly service: ServiceName;
  /** One per family, as a rule. */
  readonly addresses: readonly Ip[];
  readonly ports: readonly { readonly name: string; readonly port: number; readonly protocol: Protocol }[];
  readonly node: string | null;
  readonly zone: string | null;
}

export interface RegistrationOptions {
  readonly members: EtcdMembers;
  readonly ttlSeconds: number;
  readonly clock: Clock;
  /** It is in etcd, or why not. */
  readonly onState: (state: { readonly t: 'registered' } | { readonly t: 'lost'; readonly reason: string }) => void;
}

/**
 * Keeps a workload's endpoints in etcd until the signal aborts, under a lease: when the workload ends its endpoints go at once, and when it
 * vanishes they go with the lease. A lease that was lost is replaced.
 *
 * @throws EtcdError REFUSED when etcd would refuse it forever.
 */
export async function keepRegistered(
  workload: Workload,
  { members, ttlSeconds, clock, onState }: RegistrationOptions,
  signal: AbortSignal,
): Promise<void> {
  const backoff = new Backoff(clock);
  const slices = workload.addresses.map((address) => sliceOf(workload, address));
  while (!signal.aborted) {
    try {
      await underLease(
        members,
        { ttlSeconds, clock },
        async (lease) => {
          await members.use(async (client) => {
            const store = new EtcdStore(client, [], () => clock.nowUs() / 1000);
            for (const slice of slices) await store.apply(slice, lease.signal, lease.id);
          });
          backoff.reset();
          onState({ t: 'registered' });
          await aborted(lease.signal);
          if (!signal.aborted) throw lease.signal.reason;
        },
        signal,
      );
    } catch (error) {
      if (!(error instanceof EtcdError) || error.code === 'REFUSED') throw error;
      if (signal.aborted) return;
      onState({ t: 'lost', reason: error.message });
    }
    await backoff.wait(signal);
  }
}

/** An EndpointSlice of one endpoint: slices of several workloads do not meet. */
function sliceOf({ service, ports, node, zone }: Workload, address: Ip): Fields {
  const [namespace = '', name = ''] = service.split('/');
  const suffix = `${address.replaceAll(/[.:]+/g, '-')}-${ports[0]?.port ?? 0}`;
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${name}-${suffix}`, namespace, labels: { 'kubernetes.io/service-name': name } },
    addressType: familyOf(address),
    ports,
    endpoints: [
      {
        addresses: [address],
        ...(node === null ? {} : { nodeName: node }),
        ...(zone === null ? {} : { zone }),
      },
    ],
  };
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
