import { type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js';
import {
  type AdminServiceServer,
  type GetStatusResponse,
  SourceStatus_State,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import type { Logger } from 'pino';
import { lateness } from '../acks/lateness.ts';
import { type NodeState, stateOf } from '../acks/node-record.ts';
import { type NodeSelection, parseSelectors, SelectorError } from '../acks/selectors.ts';
import { AdminError } from './admin-error.ts';
import { type ExplainDependencies, explainCall } from './explain-call.ts';
import { Coverage, type Directory, serviceToProto } from './services.ts';
import { changeToProto, lateToProto, nodeToProto, slowestFirst } from './to-proto.ts';
import { conditionOf, hasRead, rulesOf, serveWait, type WaitDependencies } from './wait-call.ts';
import { serveWatch } from './watch-call.ts';

export interface AdminDependencies extends WaitDependencies, ExplainDependencies {
  /** By name the first cluster's; `clusters` one by one. */
  readonly directory: ExplainDependencies['directory'] & Directory;
  readonly release: string;
  readonly startedAtMs: number;
  /** Of a source, as given, without credentials. */
  locationOf(source: string): string;
  /** May the peer of this call ask? */
  isAdmin(call: Pick<ServerUnaryCall<unknown, unknown>, 'getAuthContext'>): boolean;
  readonly logger: Logger;
}

const defaultHistoryLimit = 20;
const maxHistoryLimit = 1000;
const serviceForm = /^[^/\s]+\/[^/\s]+$/;

/** AdminService of admin.proto. */
export function adminService(dependencies: AdminDependencies): AdminServiceServer {
  const { history, book, clock, directory } = dependencies;
  return {
    getStatus: unary(dependencies, () => statusOf(dependencies)),

    listNodes: unary(dependencies, ({ selectors }) => {
      const { matches } = selectionOf(selectors);
      const nowUs = clock.nowUs();
      const records = [...book.records].filter(matches).sort((a, b) => (a.name < b.name ? -1 : 1));
      return { nodes: records.map((record) => nodeToProto(record, history, nowUs)), head: history.headVersion };
    }),

    listServices: unary(dependencies, ({ service }) => {
      const name = serviceOf(service, directory);
      const coverage = new Coverage(book);
      const detail = name !== null;
      const services = directory.clusters.flatMap((cluster) => {
        const chosen = name === null ? [...cluster.services.values()] : [cluster.services.get(name)];
        return chosen.flatMap((one) =>
          one ? [serviceToProto(one, { directory: cluster, history, coverage, detail })] : [],
        );
      });
      return { services: services.sort((a, b) => (fullName(a) < fullName(b) ? -1 : 1)) };
    }),

    listHistory: unary(dependencies, ({ limit, service }) => {
      const name = service === '' ? null : (service as ServiceName);
      const changes = history
        .newestFirst()
        .filter(({ services }) => name === null || services.has(name))
        .take(Math.min(limit || defaultHistoryLimit, maxHistoryLimit))
        .map((commit) => changeToProto(commit, history.epoch, book.convergence(commit.sequence)));
      return { changes: [...changes] };
    }),

    explain: unary(dependencies, (request) => explainCall(request, dependencies)),

    watch(call) {
      try {
        requireAdmin(dependencies, call);
        serveWatch(call, dependencies);
      } catch (error) {
        call.emit('error', grpcError(error, dependencies.logger));
      }
    },

    wait(call) {
      try {
        requireAdmin(dependencies, call);
        const { request } = call;
        const rules = rulesOf(request, selectionOf(request.selectors));
        const condition = conditionOf(request);
        // Before anything is written: a source that is not known, or a version that is not there.
        const isReady = hasRead(request, history);
        if (isReady && request.sequence > history.head)
          throw new AdminError(
            status.INVALID_ARGUMENT,
            `version ${request.sequence} is not there yet; the head is ${history.head}`,
          );
        // A Service that was just written may come with the inputs.
        const wasThere = condition !== null || history.newestOf(request.service as ServiceName) !== null;
        const service = isReady
          ? serviceOf(request.service, directory, wasThere)
          : request.service === ''
            ? null
            : (request.service as ServiceName);
        serveWait(call, { request, rules, service, condition }, dependencies);
      } catch (error) {
        call.emit('error', grpcError(error, dependencies.logger));
      }
    },
  };
}

function unary<Request, Response>(dependencies: AdminDependencies, answer: (request: Request) => Response) {
  return (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>): void => {
    try {
      requireAdmin(dependencies, call);
      callback(null, answer(call.request));
    } catch (error) {
      callback(grpcError(error, dependencies.logger));
    }
  };
}

function requireAdmin({ isAdmin }: AdminDependencies, call: Parameters<AdminDependencies['isAdmin']>[0]): void {
  if (isAdmin(call)) return;
  throw new AdminError(
    status.PERMISSION_DENIED,
    'the certificate is not an admin one: it needs the URI octoplane://admin/NAME, or the organisation octoplane:admins',
  );
}

function grpcError(error: unknown, logger: Logger): AdminError {
  if (error instanceof AdminError) return error;
  logger.error({ err: error }, 'an admin call failed');
  return new AdminError(status.INTERNAL, 'the controller failed to answer; its log says why');
}

function selectionOf(selectors: readonly string[]): NodeSelection {
  try {
    return parseSelectors(selectors);
  } catch (error) {
    if (error instanceof SelectorError) throw new AdminError(status.INVALID_ARGUMENT, error.message);
    throw error;
  }
}

/** Null: none is named. `wasThere`: a Service that is gone can still be waited for. */
function serviceOf(text: string, directory: Directory, wasThere = false): ServiceName | null {
  if (text === '') return null;
  if (!serviceForm.test(text)) throw new AdminError(status.INVALID_ARGUMENT, `${text} is not NAMESPACE/NAME`);
  const name = text as ServiceName;
  if (!wasThere && !directory.services.has(name))
    throw new AdminError(status.NOT_FOUND, `there is no Service ${text}; octoplane services lists them`);
  return name;
}

const fullName = ({ namespace, name }: { readonly namespace: string; readonly name: string }): string =>
  `${namespace}/${name}`;

const conditions = {
  syncing: SourceStatus_State.SYNCING,
  synced: SourceStatus_State.SYNCED,
  stale: SourceStatus_State.STALE,
} as const;

function statusOf({
  release,
  history,
  book,
  census,
  clock,
  startedAtMs,
  directory,
  locationOf,
}: AdminDependencies): GetStatusResponse {
  const counts: Record<NodeState, number> = { current: 0, late: 0, refusing: 0, disconnected: 0 };
  const byDriver = new Map<string, number>();
  for (const record of book.records) {
    counts[stateOf(record)]++;
    if (record.driver !== '') byDriver.set(record.driver, (byDriver.get(record.driver) ?? 0) + 1);
  }
  const newest = history.at(history.head);
  const nowUs = clock.nowUs();
  let servicePorts = 0;
  let endpoints = 0;
  let services = 0;
  for (const cluster of directory.clusters) {
    services += cluster.services.size;
    for (const [name, service] of cluster.services) {
      servicePorts += service.ports.length;
      for (const slice of cluster.slicesOf(name)) endpoints += slice.endpoints.length;
    }
  }
  return {
    release,
    head: history.headVersion,
    startedAtMs,
    sources: directory.reports().map(({ name, condition, sinceMs, revision, objects }) => ({
      name,
      location: locationOf(name),
      state: conditions[condition.t],
      reason: condition.t === 'stale' ? condition.reason : '',
      sinceMs,
      revision: revision ?? undefined,
      objects,
    })),
    services,
    servicePorts,
    endpoints,
    nodesCurrent: counts.current,
    nodesLate: counts.late,
    nodesRefusing: counts.refusing,
    nodesDisconnected: counts.disconnected,
    rejected: [...directory.rejected()],
    troubled: slowestFirst([...book.records].filter((record) => stateOf(record) !== 'current'))
      .slice(0, maxTroubled)
      .map((record) => lateToProto(record.name, record.reported, lateness(record, history, nowUs))),
    lastChange: newest ? changeToProto(newest, history.epoch, book.convergence(newest.sequence)) : undefined,
    settlingMs: census.settlingMs(),
    nodesMissing: census.missing().length,
    drivers: [...byDriver].sort(([a], [b]) => (a < b ? -1 : 1)).map(([driver, nodes]) => ({ driver, nodes })),
  };
}

const maxTroubled = 10;
