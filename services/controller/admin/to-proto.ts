import { digestToBytes } from '@octoplane/model/digest.ts';
import type {
  ChangeRecord,
  Convergence as ConvergenceProto,
  LateNode,
  NodeStatus,
  WaitResponse,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { LateNode_Reason, NodeStatus_State } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { traceIdOf } from '@octoplane/model/trace-id.ts';
import type { Convergence } from '../acks/convergence.ts';
import { type Lateness, lagUs, neverConnected } from '../acks/lateness.ts';
import { type NodeRecord, type NodeState, stateOf } from '../acks/node-record.ts';
import type { WaitProgress } from '../acks/wait.ts';
import type { Commit, History, Version } from '../history/history.ts';

const maxCauses = 20;
const maxKeys = 20;
const maxLateNodes = 100;

const stateNumbers: Record<NodeState, NodeStatus_State> = {
  current: NodeStatus_State.CURRENT,
  late: NodeStatus_State.LATE,
  refusing: NodeStatus_State.REFUSING,
  disconnected: NodeStatus_State.DISCONNECTED,
};

export function nodeToProto(record: NodeRecord, history: History, nowUs: number): NodeStatus {
  const { connection } = record;
  return {
    name: record.name,
    state: stateNumbers[stateOf(record)],
    zone: record.residences.at(-1)?.id ?? record.zone,
    driver: record.driver,
    release: record.release,
    programmed: record.reported ?? undefined,
    digest: record.digest === null ? Buffer.alloc(0) : digestToBytes(record.digest),
    lagUs: lagUs(record, history, nowUs),
    latencyUs: record.latencyUs,
    durations: record.durations,
    connectedAtMs: connection.t === 'connected' ? toMs(connection.sinceUs) : 0,
    lastAckAtMs: toMs(record.lastAckUs),
    refused: Array.from(record.refused ?? [], ([key, { reason, message }]) => ({
      key,
      reason,
      message,
      held: undefined,
    })),
    lastError: record.lastError,
    peer: connection.t === 'connected' ? connection.peer : '',
    sentBytes: record.sentBytes,
  };
}

export function convergenceToProto(convergence: Convergence): ConvergenceProto {
  return {
    nodes: convergence.nodes,
    programmed: convergence.programmed,
    p50Us: convergence.p50Us ?? 0,
    p99Us: convergence.p99Us ?? 0,
    p100Us: convergence.p100Us ?? 0,
    slowest: convergence.slowest ?? '',
  };
}

export function changeToProto(commit: Commit, epoch: number, convergence: Convergence | null): ChangeRecord {
  const { causes } = commit.batch;
  const keys = keysOf(commit);
  return {
    version: { epoch, sequence: commit.sequence },
    committedAtUs: commit.committedAtUs,
    causes: causes.slice(0, maxCauses).map((cause) => ({ ...cause, traceparent: cause.traceparent ?? '' })),
    moreCauses: Math.max(0, causes.length - maxCauses),
    keys: keys.slice(0, maxKeys),
    moreKeys: Math.max(0, keys.length - maxKeys),
    convergence: convergence ? convergenceToProto(convergence) : undefined,
    traceId: traceIdOf({ epoch, sequence: commit.sequence }),
  };
}

const lateReasons: Record<Lateness['reason'], LateNode_Reason> = {
  slow: LateNode_Reason.SLOW,
  refused: LateNode_Reason.REFUSED,
  disconnected: LateNode_Reason.DISCONNECTED,
  absent: LateNode_Reason.ABSENT,
  'never connected': LateNode_Reason.NEVER_CONNECTED,
  'still chosen': LateNode_Reason.STILL_CHOSEN,
};

export function progressToProto(
  progress: WaitProgress,
  { version, whyLate }: { readonly version: Version; readonly whyLate: (record: NodeRecord) => Lateness },
): WaitResponse {
  const { nodes, programmed, required, ignored, uncounted, settlingMs, isDone } = progress;
  const known = (records: readonly NodeRecord[]): LateNode[] =>
    slowestFirst(records)
      .slice(0, maxLateNodes)
      .map((record) => lateToProto(record.name, record.reported, whyLate(record)));
  const unknown = progress.unknown.map(({ name, hasNodeObject }) =>
    lateToProto(name, null, neverConnected(hasNodeObject)),
  );
  const unseen = uncounted.map((name) => lateToProto(name, null, neverConnected(true)));
  return {
    version,
    nodes,
    programmed,
    required,
    done: isDone,
    late: [...known(progress.late), ...unknown].slice(0, maxLateNodes),
    ignored: [...known(ignored), ...unseen].slice(0, maxLateNodes),
    ignoredNodes: ignored.length + uncounted.length,
    settlingMs,
    nobody: progress.nobody ?? '',
  };
}

export const slowestFirst = (records: readonly NodeRecord[]): readonly NodeRecord[] =>
  records.toSorted((a, b) => a.programmed - b.programmed);

export const lateToProto = (name: string, programmed: Version | null, { reason, words }: Lateness): LateNode => ({
  name,
  programmed: programmed ?? undefined,
  why: words,
  reason: lateReasons[reason],
});

function keysOf({ batch }: Commit): string[] {
  const keys = new Set<string>();
  for (const group of [batch.classes, batch.overlays])
    for (const changes of group.values()) for (const { key } of changes) keys.add(key);
  return [...keys].sort();
}

const toMs = (us: number): number => Math.floor(us / 1000);
