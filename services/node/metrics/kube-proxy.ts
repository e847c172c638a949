import { familyOf } from '@octoplane/model/address.ts';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { Family } from '@octoplane/model/keys.ts';
import { type Entry, endpointFlags, endpointsEqual, specsEqual } from '@octoplane/model/rule-set.ts';
import { exponentialBuckets, linearBuckets } from 'prom-client';
import type { Clock } from '../clock.ts';
import type { DriverName } from '../drivers/driver.ts';
import { type ReconcileObserver, silentObserver } from '../reconcile/observer.ts';
import type { Metrics } from './metrics.ts';

const syncBuckets = exponentialBuckets(0.001, 2, 15);
/** kube-proxy's, so that recorded rules and dashboards keep working. */
const programmingBuckets = [
  ...linearBuckets(0.25, 0.25, 2),
  ...linearBuckets(1, 1, 59),
  ...linearBuckets(60, 5, 12),
  ...linearBuckets(120, 30, 7),
];

/**
 * kube-proxy's metric names with its meanings. Where kube-proxy has a proxier per family, one transaction here serves both,
 * and counts for each family that it touched.
 *
 * Not the same: network_programming_duration_seconds begins when the controller committed the change, not with the
 * endpoints' trigger time; for the whole way from the object see the controller's metrics.
 */
export function kubeProxyMetrics(
  metrics: Metrics,
  options: { readonly driver: DriverName; readonly release: string; readonly clock: Clock },
) {
  const { clock, driver } = options;
  const family = ['ip_family'] as const;
  const sync = metrics.histogram(
    'kubeproxy_sync_proxy_rules_duration_seconds',
    'From the arrival of a change to its read-back from the kernel',
    syncBuckets,
    family,
  );
  const full = metrics.histogram(
    'kubeproxy_sync_full_proxy_rules_duration_seconds',
    'Of these, the ones that compared the whole kernel state',
    syncBuckets,
    family,
  );
  const partial = metrics.histogram(
    'kubeproxy_sync_partial_proxy_rules_duration_seconds',
    'Of these, the ones that wrote what had changed and nothing else',
    syncBuckets,
    family,
  );
  const programming = metrics.histogram(
    'kubeproxy_network_programming_duration_seconds',
    'From the commit of a change in the controller to its read-back on this node',
    programmingBuckets,
    family,
  );
  const lastSync = metrics.gauge(
    'kubeproxy_sync_proxy_rules_last_timestamp_seconds',
    'When rules were last programmed, seconds since 1970',
    family,
  );
  const lastQueued = metrics.gauge(
    'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds',
    'When rules to be programmed last arrived, seconds since 1970',
    family,
  );
  const endpointsTotal = metrics.counter(
    'kubeproxy_sync_proxy_rules_endpoint_changes_total',
    'Service ports whose endpoints changed',
  );
  const endpointsPending = metrics.gauge(
    'kubeproxy_sync_proxy_rules_endpoint_changes_pending',
    'Service ports whose endpoints wait to be programmed',
  );
  const servicesTotal = metrics.counter(
    'kubeproxy_sync_proxy_rules_service_changes_total',
    'Service ports whose frontends or policies changed',
  );
  const servicesPending = metrics.gauge(
    'kubeproxy_sync_proxy_rules_service_changes_pending',
    'Service ports whose frontends or policies wait to be programmed',
  );
  const noLocal = metrics.gauge(
    'kubeproxy_sync_proxy_rules_no_local_endpoints_total',
    'Service ports of a Local policy that have endpoints elsewhere and none here',
    ['ip_family', 'traffic_policy'],
  );
  const healthz = metrics.counter('kubeproxy_proxy_healthz_total', 'Answers of /healthz by status', ['code']);
  const livez = metrics.counter('kubeproxy_proxy_livez_total', 'Answers of /livez by status', ['code']);
  const flowsSync = metrics.histogram(
    'kubeproxy_conntrack_reconciler_sync_duration_seconds',
    'Time that it took to find and delete stale UDP flows',
    syncBuckets,
    family,
  );
  const flowsDeleted = metrics.counter(
    'kubeproxy_conntrack_reconciler_deleted_entries_total',
    'Stale UDP flows deleted',
    family,
  );
  metrics
    .gauge('kubernetes_build_info', 'Build information, in the place where kube-proxy has its own', [
      'git_version',
      'platform',
    ])
    .set({ git_version: `octoplane-${options.release}`, platform: `linux/${process.arch}` }, 1);
  const failures = driverFailures(metrics, driver);

  const observer: ReconcileObserver = {
    ...silentObserver,
    queued: (frame) => {
      for (const ip_family of families) lastQueued.set({ ip_family }, clock.nowMs() / 1000);
      const changes = [...frame.delta.values()];
      servicesPending.set(changes.filter((change) => change.t === 'removed' || change.spec !== null).length);
      endpointsPending.set(
        changes.filter((change) => change.t === 'removed' || change.upserted.length + change.removed.length > 0).length,
      );
    },
    programmed: (done) => {
      const seconds = done.durationUs / 1e6;
      for (const ip_family of familiesOf(done.changes)) {
        sync.observe({ ip_family }, seconds);
        (done.full ? full : partial).observe({ ip_family }, seconds);
        if (done.committedAtUs > 0)
          programming.observe({ ip_family }, Math.max(0, clock.nowMs() / 1000 - done.committedAtUs / 1e6));
        lastSync.set({ ip_family }, clock.nowMs() / 1000);
      }
      servicesPending.set(0);
      endpointsPending.set(0);
    },
    committed: (changes) => {
      for (const { before, after } of changes) {
        if (!before || !after || !specsEqual(before.spec, after.spec)) servicesTotal.inc();
        if (!endpointsEqual(before?.endpoints ?? [], after?.endpoints ?? [])) endpointsTotal.inc();
        for (const ip_family of families)
          for (const traffic_policy of policies) {
            const difference =
              lacksLocal(after, ip_family, traffic_policy) - lacksLocal(before, ip_family, traffic_policy);
            noLocal.inc({ ip_family, traffic_policy }, difference);
          }
      }
    },
    failed: failures,
  };
  return {
    observer,
    answered: (endpoint: 'healthz' | 'livez', code: number) =>
      (endpoint === 'healthz' ? healthz : livez).inc({ code: String(code) }),
    flowsCleaned: (ip_family: Family, seconds: number, deleted: number) => {
      flowsSync.observe({ ip_family }, seconds);
      flowsDeleted.inc({ ip_family }, deleted);
    },
  };
}

const families = ['IPv4', 'IPv6'] as const;
const policies = ['internal', 'external'] as const;

/** kube-proxy counts failures per backend, and for iptables whole and partial ones apart. */
function driverFailures(metrics: Metrics, driver: DriverName): ReconcileObserver['failed'] {
  const family = ['ip_family'] as const;
  const both = (counter: { inc(labels: { ip_family: Family }): void }) => {
    for (const ip_family of families) counter.inc({ ip_family });
  };
  if (driver === 'nftables') {
    const syncs = metrics.counter(
      'kubeproxy_sync_proxy_rules_nftables_sync_failures_total',
      'Transactions and read-backs that failed',
      family,
    );
    const cleanups = metrics.counter(
      'kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total',
      'Removals of stale objects that failed',
      family,
    );
    return (step) => both(step === 'prune' ? cleanups : syncs);
  }
  if (driver === 'iptables') {
    const restores = metrics.counter(
      'kubeproxy_sync_proxy_rules_iptables_restore_failures_total',
      'Runs of iptables-restore that failed',
      family,
    );
    const partials = metrics.counter(
      'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total',
      'Of these, the ones that wrote only what had changed',
      family,
    );
    return (_step, full) => {
      both(restores);
      if (!full) both(partials);
    };
  }
  return () => undefined;
}

function familiesOf(changes: readonly EntryChange[]): ReadonlySet<Family> {
  const found = new Set<Family>();
  for (const { before, after } of changes)
    for (const entry of [before, after]) {
      for (const ip of entry?.spec.clusterIps ?? []) found.add(familyOf(ip));
      for (const { ip } of entry?.endpoints ?? []) found.add(familyOf(ip));
      if (found.size === 2) return found;
    }
  return found;
}

/** 1 when the policy keeps traffic of this family on the node, and no endpoint is here although there are some elsewhere. */
function lacksLocal(entry: Entry | null, family: Family, policy: 'internal' | 'external'): 0 | 1 {
  if (entry === null) return 0;
  const { spec, endpoints } = entry;
  if ((policy === 'internal' ? spec.internalPolicy : spec.externalPolicy) !== 'Local') return 0;
  if ((spec.usableFamilies & (family === 'IPv4' ? 1 : 2)) === 0) return 0;
  return endpoints.some(({ ip, flags }) => familyOf(ip) === family && (flags & endpointFlags.local) !== 0) ? 0 : 1;
}
