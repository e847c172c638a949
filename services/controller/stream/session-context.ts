import type { Hello } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import type { Logger } from 'pino';
import type { NodeBook, SentFrame } from '../acks/node-book.ts';
import type { NodeRecord } from '../acks/node-record.ts';
import type { Clock } from '../clock.ts';
import type { Views } from '../compute/batch.ts';
import type { Commit, History } from '../history/history.ts';
import type { Deltas } from './deltas.ts';
import type { Gate } from './gate.ts';
import type { Repairs } from './repairs.ts';
import type { StreamError } from './stream-error.ts';

/** What a session needs of its transport. */
export interface Link {
  /** Who is at the other end, for people. */
  readonly peer: string;
  /** May the peer speak for this node? */
  mayBe(name: NodeName): boolean;
  /** False: the peer reads slowly, and `drained` is called when it has caught up. */
  write(message: Buffer): boolean;
  /** Null: a plain end. */
  end(error: StreamError | null): void;
}

export interface SessionSettings {
  readonly release: string;
  /** Plan.reconnect_spread_ms for as many nodes as there are. */
  reconnectSpreadMs(): number;
  readonly helloTimeoutMs: number;
  readonly retryBaseMs: number;
  readonly retryMaxMs: number;
}

/** Is told what happens on streams, for metrics. */
export interface StreamObserver {
  planned(kind: string): void;
  sent(kind: 'delta' | 'repair', messages: number, bytes: number): void;
  programmed(latencyUs: number): void;
  refused(reason: string): void;
  ended(code: string): void;
}

/** A delta was encoded, for all nodes of a class at `from`. */
export interface EncodedFrame {
  readonly from: number;
  readonly to: number;
  readonly fromUs: number;
  readonly toUs: number;
  readonly bytes: number;
}

/** A node has answered a frame with a Nack. */
export interface FrameRefusal extends SentFrame {
  readonly stage: string;
  readonly reason: string;
  readonly message: string;
  /** Entries at fault; empty: not known. */
  readonly keys: readonly ServicePortKey[];
}

/** Is told what becomes of frames, for traces. */
export interface FrameObserver {
  encoded(frame: EncodedFrame): void;
  /** These versions were written to everyone who could take them. */
  written(commits: readonly Commit[]): void;
  refused(node: NodeRecord, refusal: FrameRefusal): void;
}

/** What all sessions share. */
export interface SessionContext {
  readonly views: Views;
  readonly history: History;
  readonly book: NodeBook;
  readonly deltas: Deltas;
  readonly repairs: Repairs;
  readonly gate: Gate;
  readonly clock: Clock;
  /** In [0, 1): spreads retries. */
  readonly random: () => number;
  readonly logger: Logger;
  readonly observer: StreamObserver | null;
  readonly frames: FrameObserver | null;
  readonly settings: SessionSettings;
  /** Makes the node known to compute, and ends an older stream of the same name. */
  admit(session: Admitted, name: NodeName, place: Pick<Hello, 'zone' | 'cluster'>): void;
  /** False: the sources have not been read in full yet, and the node may not be answered. */
  isOpen(name: NodeName): boolean;
  /** NodeState.leaving of stream.proto. */
  isLeaving(name: NodeName): boolean;
  left(session: Admitted): void;
  /** A node has programmed a later revision of the source than has been read here. */
  lagging(source: string): void;
}

/** A session as those see it who keep them. */
export interface Admitted {
  readonly record: NodeRecord | null;
  readonly isWaitingForInputs: boolean;
  pump(): void;
  tellState(): void;
  abort(error: StreamError): void;
  move(to: string, reason: string): void;
}

/** What is known of the rule set that the node holds. */
export type Base =
  | { readonly t: 'nothing' }
  | { readonly t: 'version'; readonly sequence: number }
  | { readonly t: 'buckets'; readonly digests: Buffer }
  | { readonly t: 'unknown' };
