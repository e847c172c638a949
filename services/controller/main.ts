import type { Server as GrpcServer } from '@grpc/grpc-js';
import { AdminServiceService } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { HealthImplementation } from 'grpc-health-check';
import type { Logger } from 'pino';
import { Census } from './acks/census.ts';
import { EndpointIndex } from './acks/endpoint-index.ts';
import { NodeBook } from './acks/node-book.ts';
import { ReadinessGates } from './acks/readiness-gates.ts';
import { Roster } from './acks/roster.ts';
import { adminService } from './admin/admin-service.ts';
import { addReflection } from './admin/reflection.ts';
import { type Clock, systemClock } from './clock.ts';
import { Door } from './door.ts';
import { listen, newGrpcServer, serverCredentials } from './grpc-server.ts';
import { Auditor } from './history/auditor.ts';
import { Committer } from './history/committer.ts';
import { type Commit, History } from './history/history.ts';
import { ArrivalMetrics } from './http/arrival-metrics.ts';
import { Gate } from './http/gate.ts';
import { httpServer, listenHttp } from './http/http-server.ts';
import { Metrics } from './http/metrics.ts';
import { assembleClusters } from './multicluster/assemble.ts';
import type { ClusterSet } from './multicluster/cluster-set.ts';
import { isRecorded, openRecording, type Recording } from './multicluster/recording.ts';
import { type ControllerOptions, defaultClusterLeaseMs, validateControllerOptions } from './options.ts';
import { underClusterLease } from './sources/cluster-lease.ts';
import type { Gatekeeper } from './sources/kubernetes/gatekeeper.ts';
import { openSource } from './sources/open.ts';
import { type Source, SourceError } from './sources/source.ts';
import { StartError } from './start-error.ts';
import { Fleet } from './stream/fleet.ts';
import { rulesService, rulesServiceDefinition } from './stream/rules-service.ts';
import { authorization } from './tls/authorization.ts';
import { CertificateFiles } from './tls/certificate-files.ts';
import type { Tracing, TracingContext } from './tracing/open.ts';
import { tracingSettings } from './tracing/settings.ts';

export interface ControllerContext {
  readonly logger: Logger;
  /** Aborted: nodes are asked to go elsewhere, and everything is closed within 5 s. */
  readonly signal: AbortSignal;
  readonly clock?: Clock;
  /** Called once both ports are bound, with the ports. Nothing is served before every source is in sync. */
  readonly onListening?: (ports: { readonly grpc: number; readonly http: number }) => void;
}

/** What SIGTERM leaves for streams to end in; interface.md promises 5 s in all. */
const drainMs = 4000;

/**
 * The brain, from its options to its end. Resolves when the signal has been obeyed.
 * @throws StartError when it cannot start as configured; anything else is a bug.
 */
export async function runController(options: ControllerOptions, context: ControllerContext): Promise<void> {
  validateControllerOptions(options);
  const { logger, signal, clock = systemClock } = context;
  const stop = new AbortController();
  const failed = Promise.withResolvers<never>();
  const whenStopped = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });

  await using cleanUp = new AsyncDisposableStack();
  cleanUp.defer(() => stop.abort());

  const certificates =
    options.security.t === 'mtls' ? new CertificateFiles(options.security.files, clock, logger) : null;
  if (certificates) {
    certificates.watch();
    cleanUp.defer(() => certificates.close());
  } else {
    logger.warn({ listen: options.listen }, '--insecure: anybody who reaches this address is any node and an admin');
  }

  const gatekeeper: Gatekeeper = { podChanged: (...change) => gates?.podChanged(...change) };
  const sources = options.sources.map((option) => {
    const multicluster = options.sources.length > 1;
    const source = openSource(option, {
      ...options,
      logger,
      gatekeeper: options.readinessGates ? gatekeeper : null,
      multicluster,
    });
    return !multicluster ? source : underClusterLease(source, options.clusterLeaseMs ?? defaultClusterLeaseMs, clock);
  });
  const { clusters, roster } = await openState(options, { clock, logger, onImports: () => recording?.wake() });
  cleanUp.defer(() => clusters.flushed());
  const { clusterSet } = clusters;
  const recording: Recording | null = openRecording(options, { clusterSet, clock, logger });
  const startedAtMs = Math.floor(clock.nowUs() / 1000);
  const history = new History({ epoch: startedAtMs });
  const metrics = new Metrics();
  const tracing = await tracingFrom(process.env, {
    history,
    missing: (sequence) => book.missing(sequence),
    clock,
    logger,
    release: options.release,
    onCounted: (fate, spans) => metrics.countSpans(fate, spans),
  });
  cleanUp.defer(() => tracing?.close());
  const arrivals = new ArrivalMetrics({
    registry: metrics.registry,
    sinceUs: startedAtMs * 1000,
    traceOf: (commit) => tracing?.tracer.traceOf(commit) ?? null,
  });
  const book: NodeBook = new NodeBook(history, clusterSet, tracing ? [tracing.tracer, arrivals] : [arrivals]);
  const fleet = new Fleet({
    cluster: clusterSet,
    history,
    book,
    clock,
    logger,
    release: options.release,
    observer: metrics,
    onLag: (input) => sources.find((source) => source.name === input.split('/')[0])?.catchUp?.(),
    ...(tracing && { frames: tracing.tracer }),
  });
  const rostered = roster?.entries ?? [];
  fleet.restore(rostered);
  roster?.follow(book);
  const census = new Census({
    book,
    nodeObjects: () => clusterSet.nodes,
    clock,
    hasRoster: rostered.length > 0,
    settleMs: options.settleMs,
  });
  const endpoints = new EndpointIndex(history, clusterSet);
  const health = new HealthImplementation({ '': 'NOT_SERVING' });
  const advances = new Set<() => void>();
  const committer = new Committer({
    computing: clusterSet,
    history,
    clock,
    logger,
    audience: {
      open() {
        fleet.open();
        census.open();
        health.setStatus('', 'SERVING');
      },
      async committed(commits: readonly Commit[]) {
        for (const commit of commits) endpoints.committed(commit);
        const written = fleet.committed(commits);
        for (const advance of advances) advance();
        await written;
      },
    },
    onCorrected(services) {
      metrics.corrected(services.size);
      logger.error(
        { services: [...services] },
        'an audit found views that were wrong, and put them right: please report it',
      );
    },
    onError: failed.reject,
  });
  const auditor = new Auditor({
    audit: (count) => committer.audit(count),
    services: () => clusterSet.size,
    clock,
  });
  auditor.start();
  cleanUp.defer(() => auditor.stop());

  const waiting = {
    history,
    views: clusterSet,
    book,
    census,
    endpoints,
    clock,
    signal: stop.signal,
    onAdvance(callback: () => void) {
      advances.add(callback);
      return () => advances.delete(callback);
    },
  };
  const everyNode = !(options.gatesKnowAll ?? false);
  const gates: ReadinessGates | null = options.readinessGates
    ? new ReadinessGates({ ...waiting, logger, everyNode, ...options.readinessGates })
    : null;
  const authorize = authorization(options.security.t === 'mtls');
  const door = new Door({ clock, logger, onRefused: (why) => metrics.connectionRefused(why) });
  const grpc = newGrpcServer(door);
  grpc.addService(rulesServiceDefinition, rulesService(fleet, authorize.node));
  grpc.addService(
    AdminServiceService,
    adminService({
      release: options.release,
      startedAtMs,
      ...waiting,
      logger,
      directory: clusterSet,
      locationOf: (name) => sources.find((source) => source.name === name)?.location ?? '',
      isAdmin: authorize.admin,
    }),
  );
  health.addToServer(grpc);
  if (!addReflection(grpc)) logger.info('no .proto files here: server reflection is not offered');

  metrics.measure({
    history,
    book,
    streams: () => fleet.streams,
    reports: () => clusterSet.reports(),
    rejected: () => clusterSet.rejected(),
    services: () => clusterSet.size,
    waitingSpans: () => tracing?.waitingSpans() ?? 0,
    closedGates: () => gates?.size ?? 0,
  });
  const gate = new Gate({ ...waiting, clients: options.gateClients, everyNode });
  const http = httpServer({ whyNotReady: () => whyNotReady(clusterSet) }, metrics.registry, gate);
  cleanUp.defer(async () => {
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
  });
  cleanUp.defer(async () => {
    stop.abort();
    await roster?.close();
    health.setStatus('', 'NOT_SERVING');
    fleet.close('the controller is going away');
    door.close();
    await closed(grpc, clock);
  });
  const ports = {
    grpc: await listen(grpc, options.listen, serverCredentials(certificates), door),
    http: await listenHttp(http, options.http),
  };
  logger.info({ listen: options.listen, http: options.http, ports, epoch: history.epoch }, 'listening');
  context.onListening?.(ports);

  recording?.run(stop.signal).catch(failed.reject);
  for (const source of sources) runSource(source, committer, stop.signal).catch(failed.reject);
  await Promise.race([whenStopped, failed.promise]);
  logger.info('stopping');
}

/** The OTEL_... variables switch traces on; without them nothing of OpenTelemetry is loaded. */
async function tracingFrom(env: NodeJS.ProcessEnv, context: TracingContext): Promise<Tracing | null> {
  const settings = tracingSettings(env, (message) => context.logger.warn(message));
  if (settings === null) return null;
  const { openTracing } = await import('./tracing/open.ts');
  return openTracing(settings, context);
}

async function openState(
  options: ControllerOptions,
  { clock, ...context }: { readonly clock: Clock; readonly logger: Logger; readonly onImports: () => void },
) {
  const { stateDir } = options;
  const { logger } = context;
  try {
    return {
      clusters: await assembleClusters(options, { ...context, recorded: isRecorded(options.sources) }),
      roster: stateDir === null ? null : await Roster.open(stateDir, clock, logger),
    };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new StartError('STATE_DIR', `--state-dir ${stateDir} cannot be used (${reason}); name a writable directory`, {
      cause,
    });
  }
}

async function runSource(source: Source, committer: Committer, signal: AbortSignal): Promise<void> {
  try {
    await source.run((events) => committer.take(source.name, events), signal);
  } catch (error) {
    throw error instanceof SourceError ? new StartError('SOURCE', error.message, { cause: error }) : error;
  }
  if (!signal.aborted) throw new Error(`source ${source.name} ended by itself`);
}

function whyNotReady(clusterSet: ClusterSet): string | null {
  if (clusterSet.inSync) return null;
  const syncing = clusterSet.reports().filter(({ revision }) => revision === null);
  return `waiting for ${syncing.map(({ name }) => `source ${name}`).join(', ')} to come in sync`;
}

/** Streams end by themselves after Move; what is left is cut. */
function closed(server: GrpcServer, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const cut = clock.after(drainMs, () => {
      server.forceShutdown();
      resolve();
    });
    server.tryShutdown(() => {
      cut();
      resolve();
    });
  });
}
