import type { NodeName } from '@octoplane/model/keys.ts';
import type { Logger } from 'pino';
import type { NodeBook } from '../acks/node-book.ts';
import type { NodeRecord } from '../acks/node-record.ts';
import type { RosterEntry } from '../acks/roster.ts';
import type { Cancel, Clock } from '../clock.ts';
import type { Views } from '../compute/batch.ts';
import type { Commit, History } from '../history/history.ts';
import { Deltas } from './deltas.ts';
import { Gate } from './gate.ts';
import { Repairs } from './repairs.ts';
import { Session } from './session.ts';
import type { Admitted, FrameObserver, Link, SessionContext, StreamObserver } from './session-context.ts';
import { StreamError } from './stream-error.ts';

/** Compute, as streams see it. */
export interface Cluster extends Views {
  /** A node has opened a stream. Zone and cluster are the daemon's own; a Node object takes precedence. */
  registerNode(name: NodeName, zone: string, cluster: string): void;
  /** May the node be answered? Not before its cluster is in sync. */
  serves(name: NodeName): boolean;
  /** It will not be back. */
  forgetNode(name: NodeName): void;
  /** Nodes that are being deleted. Another set whenever it changes. */
  readonly leaving: ReadonlySet<NodeName>;
}

export interface FleetOptions {
  readonly cluster: Cluster;
  readonly history: History;
  readonly book: NodeBook;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly release: string;
  readonly random?: () => number;
  readonly observer?: StreamObserver;
  /** A node waits because it has programmed a later revision of this source than has been read here. */
  readonly onLag?: (source: string) => void;
  readonly frames?: FrameObserver;
  readonly settings?: Partial<FleetSettings>;
}

export interface FleetSettings {
  /** For the first message of a stream, and for bucket digests. Default 10 s: a node has them at hand. */
  readonly helloTimeoutMs: number;
  /** Repairs that travel at once. Default 32: each is at most a few messages of 256 KiB in memory. */
  readonly repairs: number;
  /** Longest time for which one repair keeps its place. Default 10 s: a healthy link carries 10 MB in less. */
  readonly repairLeaseMs: number;
  /** First and longest back-off after a refusal without a named entry. Default 1 s and 60 s. */
  readonly retryBaseMs: number;
  readonly retryMaxMs: number;
  /** A node gone for longer is not waited for any more. Default 1 h: longer than a reboot, shorter than a night. */
  readonly forgetAfterMs: number;
  /** Sessions written to before others get their turn at the event loop. Default 256: about 5 ms. */
  readonly fanOutSlice: number;
}

export const defaultFleetSettings: FleetSettings = {
  helloTimeoutMs: 10_000,
  repairs: 32,
  repairLeaseMs: 10_000,
  retryBaseMs: 1000,
  retryMaxMs: 60_000,
  forgetAfterMs: 3_600_000,
  fanOutSlice: 256,
};

/** Reconnects that this controller wants a second at most: about half of what it can plan. */
const reconnectsPerSecond = 1000;

/** All streams of a controller. */
export class Fleet {
  readonly #options: FleetOptions;
  readonly #settings: FleetSettings;
  readonly #context: SessionContext;
  readonly #repairs: Repairs;
  readonly #sessions = new Set<Session>();
  readonly #byName = new Map<NodeName, Admitted>();
  readonly #leaving = new Map<NodeName, Cancel>();
  #leavingTold: ReadonlySet<NodeName> = new Set();
  #isOpen = false;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#settings = { ...defaultFleetSettings, ...options.settings };
    const { cluster, history, book, clock, logger, release, random = Math.random } = options;
    this.#repairs = new Repairs(cluster, clock);
    this.#context = {
      views: cluster,
      history,
      book,
      deltas: new Deltas(history, clock, options.frames ?? null),
      repairs: this.#repairs,
      gate: new Gate({ width: this.#settings.repairs, leaseMs: this.#settings.repairLeaseMs, clock }),
      clock,
      random,
      logger,
      observer: options.observer ?? null,
      frames: options.frames ?? null,
      settings: {
        release,
        reconnectSpreadMs: () => Math.ceil((1000 * book.size) / reconnectsPerSecond),
        helloTimeoutMs: this.#settings.helloTimeoutMs,
        retryBaseMs: this.#settings.retryBaseMs,
        retryMaxMs: this.#settings.retryMaxMs,
      },
      isOpen: (name) => this.#isOpen && history.head > 0 && cluster.serves(name),
      isLeaving: (name) => cluster.leaving.has(name),
      admit: (session, name, { zone, cluster: home }) => this.#admit(session, name, zone, home),
      left: (session) => this.#left(session),
      lagging: options.onLag ?? (() => undefined),
    };
  }

  get streams(): number {
    return this.#sessions.size;
  }

  /** Nodes that were there before this controller started: they are waited for as if they had just left. */
  restore(nodes: readonly RosterEntry[]): void {
    const { cluster, book, clock } = this.#options;
    const nowUs = clock.nowUs();
    for (const { name, zone, leftAtMs } of nodes) {
      const sinceUs = leftAtMs === null ? nowUs : Math.min(nowUs, leftAtMs * 1000);
      const goneMs = (nowUs - sinceUs) / 1000;
      if (goneMs >= this.#settings.forgetAfterMs) continue;
      cluster.registerNode(name, zone, '');
      const record = book.restored(name, zone, { t: leftAtMs === null ? 'absent' : 'disconnected', sinceUs });
      const forget = () => this.#forget(record);
      this.#leaving.set(name, clock.after(this.#settings.forgetAfterMs - goneMs, forget));
    }
  }

  accept(link: Link): Session {
    const session = new Session(link, this.#context);
    this.#sessions.add(session);
    return session;
  }

  /** Every source is in sync: from the next `committed` on, nodes that wait get their plan. */
  open(): void {
    this.#isOpen = true;
  }

  /** Hands new versions to everyone that they concern and that has no frame unanswered. Resolves when all is written. */
  async committed(commits: readonly Commit[]): Promise<void> {
    const concerned = new Set<NodeRecord>();
    for (const commit of commits) {
      for (const record of this.#options.book.committed(commit)) concerned.add(record);
      this.#repairs.committed(commit.batch);
    }
    this.#announceLeaving();
    const sessions: Admitted[] = [];
    for (const session of this.#byName.values())
      if (session.isWaitingForInputs || (session.record && concerned.has(session.record))) sessions.push(session);
    for (let i = 0; i < sessions.length; i += this.#settings.fanOutSlice) {
      if (i > 0) await nextTurn();
      for (const session of sessions.slice(i, i + this.#settings.fanOutSlice)) session.pump();
    }
    this.#options.frames?.written(commits);
  }

  /** Asks every node to go elsewhere and ends its stream. */
  close(reason: string): void {
    this.#isOpen = false;
    for (const session of this.#sessions) session.move('', reason);
    for (const stop of this.#leaving.values()) stop();
    this.#leaving.clear();
  }

  /** Nodes whose deletion began or was taken back. */
  #announceLeaving(): void {
    const { leaving } = this.#options.cluster;
    if (leaving === this.#leavingTold) return;
    for (const name of leaving.symmetricDifference(this.#leavingTold)) this.#byName.get(name)?.tellState();
    this.#leavingTold = leaving;
  }

  #admit(session: Admitted, name: NodeName, zone: string, home: string): void {
    const older = this.#byName.get(name);
    this.#byName.set(name, session);
    older?.abort(new StreamError('replaced', `node ${name} opened a newer stream`));
    this.#leaving.get(name)?.();
    this.#leaving.delete(name);
    this.#options.cluster.registerNode(name, zone, home);
  }

  #left(session: Admitted): void {
    this.#sessions.delete(session as Session);
    const { record } = session;
    if (!record || this.#byName.get(record.name) !== session) return;
    this.#byName.delete(record.name);
    const { book, clock, logger } = this.#options;
    book.disconnected(record, clock.nowUs());
    logger.info({ node: record.name }, 'node left');
    const forget = () => this.#forget(record);
    if (this.#isOpen) this.#leaving.set(record.name, clock.after(this.#settings.forgetAfterMs, forget));
  }

  #forget(record: NodeRecord): void {
    this.#leaving.delete(record.name);
    this.#options.book.forget(record);
    this.#options.cluster.forgetNode(record.name);
    this.#options.logger.info({ node: record.name }, 'node forgotten');
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
