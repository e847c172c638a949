import type { Digest } from '@octoplane/model/digest.ts';
import type { Durations } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import type { ClassId, Views } from '../compute/batch.ts';
import { concerns, touches } from '../history/conflate.ts';
import type { Commit, History, Version } from '../history/history.ts';
import { Convergence, type Percentile } from './convergence.ts';
import { type Connection, classAt, type HeldBack, type NodeRecord } from './node-record.ts';

export interface NodeIntroduction {
  readonly zone: string;
  readonly driver: string;
  readonly release: string;
  readonly peer: string;
  readonly held: Version | null;
  readonly digest: Digest | null;
}

export interface ProgrammedAck {
  readonly sequence: number;
  readonly digest: Digest;
  readonly durations: Durations | undefined;
  /** Entries that this version still leaves out. */
  readonly heldBack: ReadonlyMap<ServicePortKey, unknown>;
  /** What it answers; null: the node had this without being sent anything. */
  readonly frame: SentFrame | null;
}

/** A frame on its way: everything in (from, to], or a repair, from 0. */
export interface SentFrame {
  readonly from: number;
  readonly to: number;
  readonly sentAtUs: number;
}

/** Is told how versions arrive, for metrics and traces. */
export interface ArrivalObserver {
  /** These nodes are to have it. */
  concerned(commit: Commit, nodes: ReadonlySet<NodeRecord>): void;
  /** One more of them has it, as this ack told. */
  arrived(commit: Commit, node: NodeRecord, ack: ProgrammedAck, nowUs: number): void;
  /** So many per cent of them have it, the last one so long after the commit. */
  reached(commit: Commit, percentile: Percentile, latencyUs: number): void;
}

/**
 * Who has what. One cumulative number per node, and exact convergence per version.
 *
 *   1. A version counts the nodes whose rule set it changes, known at its commit and not forgotten since. Each counts once,
 *      when it acknowledges that version or a later one; a node that holds back an entry counts for the
 *      versions of that entry when it has taken it.
 *   2. An ack costs the versions it covers that were not covered before: over time, one look per node and version, which the
 *      commit has paid as well.
 *   3. Memory: a record per node, a Convergence per version in the history's horizon.
 */
export class NodeBook {
  readonly #history: History;
  readonly #views: Pick<Views, 'classOf'>;
  readonly #records = new Map<NodeName, NodeRecord>();
  readonly #members = new Map<ClassId, Set<NodeRecord>>();
  readonly #convergence = new Map<number, Convergence>();
  readonly #watchers = new Set<(record: NodeRecord) => void>();
  readonly #observers: readonly ArrivalObserver[];

  constructor(history: History, views: Pick<Views, 'classOf'>, observers: readonly ArrivalObserver[] = []) {
    this.#history = history;
    this.#views = views;
    this.#observers = observers;
  }

  get size(): number {
    return this.#records.size;
  }

  get records(): IteratorObject<NodeRecord> {
    return this.#records.values();
  }

  find(name: NodeName): NodeRecord | null {
    return this.#records.get(name) ?? null;
  }

  /** Null beyond the horizon. */
  convergence(sequence: number): Convergence | null {
    return this.#convergence.get(sequence) ?? null;
  }

  /** Calls back whenever a node comes, goes or programs something. The returned function ends it. */
  watch(onChange: (record: NodeRecord) => void): () => void {
    this.#watchers.add(onChange);
    return () => this.#watchers.delete(onChange);
  }

  connected(name: NodeName, node: NodeIntroduction, nowUs: number): NodeRecord {
    const record = this.#records.get(name) ?? this.#newRecord(name);
    record.zone = node.zone;
    record.driver = node.driver;
    record.release = node.release;
    record.connection = { t: 'connected', sinceUs: nowUs, peer: node.peer };
    record.reported = node.held;
    record.digest = node.digest;
    record.lastError = '';
    record.sentBytes = 0;
    // What it has is settled by the plan: a machine that booted again has lost what it acknowledged.
    record.programmed = 0;
    this.#reside(record, this.#views.classOf(name), this.#history.head + 1);
    this.#notify(record);
    return record;
  }

  /** A node that was there before this controller started, and that versions concern from now on. */
  restored(name: NodeName, zone: string, connection: Exclude<Connection, { readonly t: 'connected' }>): NodeRecord {
    const record = this.#newRecord(name);
    record.zone = zone;
    record.connection = connection;
    this.#reside(record, this.#views.classOf(name), this.#history.head + 1);
    this.#notify(record);
    return record;
  }

  disconnected(record: NodeRecord, nowUs: number): void {
    record.connection = { t: 'disconnected', sinceUs: nowUs };
    this.#notify(record);
  }

  /** The node will not come back: nothing waits for it any more. */
  forget(record: NodeRecord): void {
    for (const sequence of this.#owed(record, this.#history.head)) this.#convergence.get(sequence)?.drop();
    for (const { withheld } of record.refused?.values() ?? [])
      for (const sequence of withheld) this.#convergence.get(sequence)?.drop();
    this.#records.delete(record.name);
    this.#members.get(currentClass(record))?.delete(record);
    this.#notify(record);
  }

  /** Nodes that a version concerns and that have not got it, or not all of it. Looks at every node. */
  missing(sequence: number): NodeRecord[] {
    const owes = (record: NodeRecord) =>
      record.owes !== null && record.owes <= sequence && this.#concerns(record, sequence);
    const lacks = ({ refused }: NodeRecord) =>
      refused !== null && [...refused.values()].some(({ withheld }) => withheld.includes(sequence));
    return [...this.#records.values()].filter((record) => owes(record) || lacks(record));
  }

  /** Counts whom a commit concerns, and returns them. */
  committed(commit: Commit): NodeRecord[] {
    const concerned = new Set<NodeRecord>();
    const add = (record: NodeRecord | undefined) => {
      if (record && concerns(commit.batch, record.name, classAt(record, commit.sequence))) concerned.add(record);
    };
    for (const name of commit.batch.moved) {
      const record = this.#records.get(name);
      if (!record) continue;
      this.#reside(record, this.#views.classOf(name), commit.sequence);
      add(record);
    }
    for (const id of commit.batch.classes.keys()) for (const record of this.#members.get(id) ?? []) add(record);
    for (const name of commit.batch.overlays.keys()) add(this.#records.get(name));
    for (const record of concerned) record.owes ??= commit.sequence;
    for (const observer of this.#observers) observer.concerned(commit, concerned);
    this.#convergence.set(commit.sequence, this.#newConvergence(commit, concerned.size));
    for (const sequence of this.#convergence.keys()) {
      if (sequence > this.#history.oldestBase) break;
      this.#convergence.delete(sequence);
    }
    return [...concerned];
  }

  /** The node's kernel has this version, entries held back apart. Older news than is known is ignored. */
  programmed(record: NodeRecord, ack: ProgrammedAck, nowUs: number): void {
    if (ack.sequence < record.programmed) return;
    for (const sequence of this.#owed(record, ack.sequence)) this.#countOrWithhold(record, sequence, ack, nowUs);
    this.#releaseTaken(record, ack, nowUs);
    record.programmed = ack.sequence;
    record.reported = { epoch: this.#history.epoch, sequence: ack.sequence };
    record.digest = ack.digest;
    record.durations = ack.durations;
    record.lastAckUs = nowUs;
    record.lastError = '';
    record.latencyUs = latencyOf(this.#history.at(ack.sequence), nowUs);
    record.owes = this.#nextOwed(record, ack.sequence);
    const residence = record.residences.at(-1);
    if (record.owes === null && residence && record.residences.length > 1) record.residences = [residence];
    this.#notify(record);
  }

  refused(record: NodeRecord, key: ServicePortKey, refusal: Omit<HeldBack, 'withheld'>): void {
    record.refused ??= new Map();
    const withheld = record.refused.get(key)?.withheld ?? [];
    record.refused.set(key, { ...refusal, withheld });
    this.#notify(record);
  }

  failed(record: NodeRecord, message: string): void {
    record.lastError = message;
    this.#notify(record);
  }

  #newRecord(name: NodeName): NodeRecord {
    const record: NodeRecord = {
      name,
      zone: '',
      driver: '',
      release: '',
      connection: { t: 'disconnected', sinceUs: 0 },
      residences: [],
      programmed: 0,
      reported: null,
      digest: null,
      owes: null,
      refused: null,
      lastError: '',
      latencyUs: 0,
      lastAckUs: 0,
      durations: undefined,
      sentBytes: 0,
    };
    this.#records.set(name, record);
    return record;
  }

  #reside(record: NodeRecord, id: ClassId, since: number): void {
    const before = currentClass(record);
    const residence = { since, id };
    if (record.residences.length > 0 && before === id) return;
    this.#members.get(before)?.delete(record);
    const members = this.#members.get(id) ?? new Set();
    members.add(record);
    this.#members.set(id, members);
    record.residences = record.owes === null ? [residence] : [...record.residences, residence];
  }

  /** Versions up to `to` that the node has not been counted for. */
  *#owed(record: NodeRecord, to: number): Generator<number> {
    if (record.owes === null) return;
    for (let sequence = Math.max(record.owes, this.#history.oldestBase + 1); sequence <= to; sequence++)
      if (this.#concerns(record, sequence)) yield sequence;
  }

  #nextOwed(record: NodeRecord, after: number): number | null {
    if (record.owes === null || record.owes > after) return record.owes;
    // What fell out of the horizon may have concerned it.
    if (after < this.#history.oldestBase) return after + 1;
    for (let sequence = after + 1; sequence <= this.#history.head; sequence++)
      if (this.#concerns(record, sequence)) return sequence;
    return null;
  }

  #concerns(record: NodeRecord, sequence: number): boolean {
    const commit = this.#history.at(sequence);
    return commit !== null && concerns(commit.batch, record.name, classAt(record, sequence));
  }

  #newConvergence(commit: Commit, nodes: number): Convergence {
    const observers = this.#observers;
    return new Convergence(nodes, (...reached) => {
      for (const observer of observers) observer.reached(commit, ...reached);
    });
  }

  #countOrWithhold(record: NodeRecord, sequence: number, ack: ProgrammedAck, nowUs: number): void {
    const commit = this.#history.at(sequence);
    if (!commit) return;
    const { heldBack } = ack;
    if (heldBack.size > 0 && record.refused) {
      for (const [key, { withheld }] of record.refused) {
        if (!heldBack.has(key) || !touches(commit.batch, record.name, classAt(record, sequence), key)) continue;
        withheld.push(sequence);
        while ((withheld[0] ?? sequence) <= this.#history.oldestBase) withheld.shift();
        return;
      }
    }
    this.#count(record, commit, ack, nowUs);
  }

  #count(record: NodeRecord, commit: Commit, ack: ProgrammedAck, nowUs: number): void {
    // Before it is counted: with the last node, the change has arrived.
    for (const observer of this.#observers) observer.arrived(commit, record, ack, nowUs);
    this.#convergence.get(commit.sequence)?.count(record.name, latencyOf(commit, nowUs));
  }

  #releaseTaken(record: NodeRecord, ack: ProgrammedAck, nowUs: number): void {
    if (record.refused === null) return;
    for (const [key, { withheld }] of record.refused) {
      if (ack.heldBack.has(key)) continue;
      record.refused.delete(key);
      for (const sequence of withheld) {
        const commit = this.#history.at(sequence);
        if (commit) this.#count(record, commit, ack, nowUs);
      }
    }
    if (record.refused.size === 0) record.refused = null;
  }

  #notify(record: NodeRecord): void {
    for (const watcher of this.#watchers) watcher(record);
  }
}

const currentClass = (record: NodeRecord): ClassId => record.residences.at(-1)?.id ?? '-';

const latencyOf = (commit: Commit | null, nowUs: number): number => (commit ? nowUs - commit.committedAtUs : 0);
