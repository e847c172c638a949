import type { Plan } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { Nack_Reason, Plan_Kind } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { exponentialBuckets, Gauge } from 'prom-client';
import type { Clock } from '../clock.ts';
import type { Driver } from '../drivers/driver.ts';
import type { Journal } from '../journal/journal.ts';
import type { LinkObserver } from '../receive/link.ts';
import { type ReconcileObserver, silentObserver } from '../reconcile/observer.ts';
import type { Metrics } from './metrics.ts';

export interface OctoplaneMetricsOptions {
  readonly driver: Pick<Driver, 'name' | 'gauges'>;
  readonly journal: Pick<Journal, 'bytes' | 'failures'>;
  readonly release: string;
  readonly clock: Clock;
}

/** What Octoplane alone can tell. */
export function octoplaneMetrics(metrics: Metrics, options: OctoplaneMetricsOptions) {
  const { driver, journal, clock } = options;
  const frames = metrics.counter(
    'octoplane_frames_total',
    'Frames answered, by answer: programmed, or the reason of the refusal',
    ['answer'],
  );
  const duration = metrics.histogram(
    'octoplane_frame_duration_seconds',
    'From the arrival of a frame to the end of its read-back',
    exponentialBuckets(0.0001, 2, 18),
  );
  const fullSyncs = metrics.counter(
    'octoplane_full_syncs_total',
    'Full resyncs of the kernel after a failure or an unknown state',
  );
  const failures = metrics.counter('octoplane_driver_failures_total', 'Driver operations that failed', ['step']);
  const drift = metrics.counter(
    'octoplane_drift_repaired_total',
    'What somebody else had altered in the kernel and was put right',
    ['kind'],
  );
  // A counter that begins with its first event shows no rate of it.
  for (const kind of ['entry', 'object']) drift.inc({ kind }, 0);
  const inPlace = metrics.gauge('octoplane_kernel_in_place', '1 while the kernel is known to hold the rule set');
  const connected = metrics.gauge('octoplane_controller_connected', '1 while a controller has answered');
  const connections = metrics.counter(
    'octoplane_controller_connections_total',
    'Connections by the plan that the controller chose',
    ['plan'],
  );
  const entries = metrics.gauge('octoplane_rule_set_service_ports', 'Service ports in the rule set held');
  const sequence = metrics.gauge('octoplane_rule_set_sequence', 'Sequence of the version held');
  const epoch = metrics.gauge('octoplane_rule_set_epoch', 'Epoch of the version held');
  const clashes = metrics.counter(
    'octoplane_health_check_port_clashes_total',
    'Health check node ports that could not be opened',
  );
  const flowFailures = metrics.counter('octoplane_conntrack_failures_total', 'Clean-ups of UDP flows that failed');
  metrics
    .gauge('octoplane_build_info', 'Release and driver', ['release', 'driver'])
    .set({ release: options.release, driver: driver.name }, 1);
  metrics.reading('octoplane_journal_bytes', 'Size of the journal, 0 while there is none', () => journal.bytes);
  metrics.reading(
    'octoplane_journal_failures',
    'Writes of the journal that failed since the start',
    () => journal.failures,
  );
  metrics.reading('process_resident_memory_bytes', 'Resident memory size in bytes', () => process.memoryUsage.rss());
  metrics.reading('process_cpu_seconds_total', 'User and system CPU time in seconds', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  const startedAt = clock.nowMs() / 1000;
  metrics.reading('process_start_time_seconds', 'Start of the process, seconds since 1970', () => startedAt);
  new Gauge({
    name: 'octoplane_driver_figure',
    help: 'Figures of the driver, by name',
    labelNames: ['driver', 'figure'],
    registers: [metrics.registry],
    collect() {
      for (const [figure, value] of Object.entries(driver.gauges())) this.set({ driver: driver.name, figure }, value);
    },
  });

  const observer: ReconcileObserver = {
    ...silentObserver,
    programmed: ({ durationUs }) => {
      frames.inc({ answer: 'programmed' });
      duration.observe(durationUs / 1e6);
    },
    refused: ({ reason }) => frames.inc({ answer: nameOf(Nack_Reason, reason) }),
    committed: (_, held) => {
      entries.set(held.ruleSet.size);
      sequence.set(held.version.sequence);
      epoch.set(held.version.epoch);
    },
    driftRepaired: (repaired) => {
      drift.inc({ kind: 'entry' }, repaired.entries);
      drift.inc({ kind: 'object' }, repaired.objects);
    },
    kernelState: (state) => inPlace.set(state.t === 'in-place' ? 1 : 0),
    fullSync: () => fullSyncs.inc(),
    failed: (step) => failures.inc({ step }),
  };
  const link: LinkObserver = {
    connected: (_, plan: Plan) => {
      connected.set(1);
      connections.inc({ plan: nameOf(Plan_Kind, plan.kind) });
    },
    disconnected: () => connected.set(0),
  };
  return { observer, link, checkPortClash: () => clashes.inc(), flowCleaningFailed: () => flowFailures.inc() };
}

const nameOf = (names: Readonly<Record<string, unknown>>, value: number): string =>
  (Object.entries(names).find(([, number]) => number === value)?.[0] ?? String(value)).toLowerCase();
