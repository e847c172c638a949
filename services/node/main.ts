import type { RequestListener } from 'node:http';
import { availableParallelism } from 'node:os';
import type { Logger } from 'pino';
import { type Clock, systemClock } from './clock.ts';
import { flowCleaner } from './conntrack/cleaner.ts';
import { ConnectionKeeper } from './conntrack/keeper.ts';
import { applySettings, conntrackSettings } from './conntrack/sysctls.ts';
import { driverOptions } from './driver-options.ts';
import type { Driver } from './drivers/driver.ts';
import { removeKubeProxy } from './drivers/kube-proxy.ts';
import { Predecessors } from './drivers/predecessors.ts';
import { type DriverRegistry, driverRegistry } from './drivers/registry.ts';
import { DriverTrace } from './drivers/trace.ts';
import { CheckPorts } from './health/check-ports.ts';
import { configz } from './health/configz.ts';
import { listenHttpAtStart } from './health/http.ts';
import { infoEndpoints } from './health/info-endpoints.ts';
import { listenHosts } from './health/listen-hosts.ts';
import { nodeEndpoints } from './health/node-endpoints.ts';
import { ProxyHealth } from './health/proxy-health.ts';
import { Journal } from './journal/journal.ts';
import { MemoryTrimmer } from './memory.ts';
import { kubeProxyMetrics } from './metrics/kube-proxy.ts';
import { Metrics } from './metrics/metrics.ts';
import { octoplaneMetrics } from './metrics/octoplane.ts';
import { trafficMetrics } from './metrics/traffic.ts';
import { type BindAddress, type NodeOptions, validateNodeOptions } from './options.ts';
import manifest from './package.json' with { type: 'json' };
import { followControllers } from './receive/link.ts';
import { observers, silentObserver } from './reconcile/observer.ts';
import { type FlowCleaner, Reconciler } from './reconcile/reconciler.ts';
import { healKernel } from './reconcile/self-healing.ts';
import {
  bootId,
  chooseDriverModule,
  cleanUpNode,
  openConntrack,
  openDriver,
  openState,
  requireTlsFiles,
  setOomScore,
} from './start.ts';

export interface NodeRuntime {
  readonly logger: Logger;
  /** Ends the daemon; its rules stay. */
  readonly signal: AbortSignal;
  readonly registry?: DriverRegistry;
  readonly clock?: Clock;
  /** Removes what kube-proxy has left, once ours is in place. */
  readonly removeKubeProxy?: (logger: Logger) => Promise<void>;
  /** Keeps the connections that netfilter translates, when no rule asks for it. */
  readonly keeper?: Pick<ConnectionKeeper, 'install' | 'remove'>;
}

const release: string = manifest.version;

/**
 * The node daemon, until the signal is aborted; with `cleanup`, until no driver has rules left. Rules stay in the kernel
 * when it ends.
 * @throws StartError when it cannot start
 */
export async function runNode(options: NodeOptions, runtime: NodeRuntime): Promise<void> {
  validateNodeOptions(options);
  const { registry = driverRegistry, clock = systemClock, keeper = new ConnectionKeeper() } = runtime;
  const logger = runtime.logger.child({ node: options.nodeName });
  if (options.cleanup) return cleanUpNode(registry, options, logger, keeper);
  await requireTlsFiles(options.transport);
  setOomScore(options.oomScoreAdj);

  await using opened = new AsyncDisposableStack();
  const journal = new Journal({ stateDir: options.stateDir, logger, clock });
  const held = openState(journal, options.stateDir);
  opened.defer(() => journal.close());
  const module = await chooseDriverModule(registry, options, logger);
  const driver = await openDriver(module, options, logger);
  opened.defer(() => driver.close());
  const trace = new DriverTrace(options.stateDir, module.name);
  // The fake driver forwards nothing, so what forwards must stay.
  const others = module.name === 'fake' ? [] : trace.begin();

  const metrics = new Metrics();
  const kubeProxy = kubeProxyMetrics(metrics, { driver: module.name, release, clock });
  const own = octoplaneMetrics(metrics, { driver, journal, release, clock });
  trafficMetrics(metrics, driver);
  const health = new ProxyHealth(clock, options.syncPeriodMs);
  const checkPorts = new CheckPorts({
    logger,
    hosts: () => listenHosts(options.nodePortAddresses, options.nodeAddresses),
    proxyHealthy: () => health.health.alive,
    onClash: own.checkPortClash,
  });
  opened.defer(() => checkPorts.close());
  const conntrack = module.name === 'fake' ? null : openConntrack(module.flows, logger);
  if (conntrack) opened.use(conntrack);
  const predecessors = new Predecessors(
    {
      trace,
      registry,
      optionsFor: (name) => driverOptions(options, name, logger),
      successor: module,
      removeKubeProxy: runtime.removeKubeProxy ?? removeKubeProxy,
      netfilter: {
        any: () => conntrack?.translates() ?? false,
        track: (connections) => conntrack?.track(connections),
        keep: () => keeper.install(),
        letGo: () => keeper.remove(),
      },
      clock,
      logger,
      syncPeriodMs: options.syncPeriodMs,
    },
    others,
  );
  opened.defer(() => predecessors.close());
  const stale = conntrack && flowCleaner({ conntrack, clock, logger, observer: { ...kubeProxy, ...own } });
  const flows: FlowCleaner = {
    clean: async (changes) => {
      if (module.flows === 'netfilter' || predecessors.keepsConnections) await stale?.clean(changes);
    },
  };
  const memory = new MemoryTrimmer(clock);
  const observer = observers([
    health.observer,
    kubeProxy.observer,
    own.observer,
    { ...silentObserver, committed: (changes) => checkPorts.update(changes) },
    {
      ...silentObserver,
      committed: (changes) => memory.note(changes.length),
      dumped: (entries) => memory.note(entries),
    },
    { ...silentObserver, committed: (changes) => predecessors.follow(changes) },
  ]);
  const reconciler = new Reconciler({ driver, held, journal, flows, clock, logger, observer });
  opened.defer(() => reconciler.idle());

  const answers = nodeEndpoints({ health: () => health.health, clock, answered: kubeProxy.answered });
  await serve(opened, options, answers, driver, metrics);

  if (module.flows === 'netfilter')
    await applySettings(conntrackSettings(options.conntrack, availableParallelism()), logger);
  await reconciler.start();
  await together(runtime.signal, [
    (signal) => memory.run(signal),
    (signal) => healKernel({ driver, reconciler, clock, syncPeriodMs: options.syncPeriodMs }, signal),
    (signal) =>
      followControllers(
        {
          controllers: options.controllers,
          transport: options.transport,
          identity: {
            name: options.nodeName,
            release,
            zone: options.zone,
            cluster: options.cluster,
            driver: module.name,
            bootId: bootId(),
          },
          clock,
          logger,
          random: Math.random,
          observer: own.link,
        },
        {
          summary: () => reconciler.summary(),
          bucketDigests: () => reconciler.bucketDigests(),
          rename: (version, inputs) => reconciler.rename(version, inputs),
          program: (frame) => reconciler.program(frame),
          nodeState: (state) => health.nodeState(state),
        },
        signal,
      ),
    async (signal) => {
      if (!(await unlessAborted(reconciler.firstInPlace, signal))) return;
      await predecessors.replace(() => held.ruleSet, signal);
    },
  ]);
  logger.info('stopped; the rules stay in the kernel');
}

async function serve(
  opened: AsyncDisposableStack,
  options: NodeOptions,
  health: RequestListener,
  driver: Driver,
  metrics: Metrics,
): Promise<void> {
  const listen = async (address: BindAddress | null, flag: string, handler: RequestListener) => {
    if (address === null) return;
    const server = await listenHttpAtStart(address, flag, handler);
    opened.defer(() => server.close());
  };
  const info = infoEndpoints({
    proxyMode: driver.name,
    configz: () => configz(options, driver.name),
    metrics: () => metrics.text(),
    explain: (key) => driver.explain?.(key) ?? null,
    health,
  });
  await listen(options.healthzBindAddress, '--healthz-bind-address', health);
  await listen(options.metricsBindAddress, '--metrics-bind-address', info);
}

/** Runs tasks until all have ended. When one fails the others are stopped, and its error is thrown. */
async function together(
  signal: AbortSignal,
  tasks: readonly ((signal: AbortSignal) => Promise<void>)[],
): Promise<void> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const results = await Promise.allSettled(
    tasks.map(async (task) => {
      try {
        await task(either);
      } catch (error) {
        failed.abort(error);
        throw error;
      }
    }),
  );
  const failure = results.find((result) => result.status === 'rejected');
  if (failure) throw failure.reason;
}

/** False when the signal is aborted first. */
async function unlessAborted(promise: Promise<void>, signal: AbortSignal): Promise<boolean> {
  const aborted = Promise.withResolvers<false>();
  const abort = () => aborted.resolve(false);
  if (signal.aborted) return false;
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([promise.then(() => true as const), aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
