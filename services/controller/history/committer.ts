import type { ServiceName } from '@octoplane/model/keys.ts';
import { traceIdOf } from '@octoplane/model/trace-id.ts';
import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import type { Batch, InputRevision } from '../compute/batch.ts';
import type { SourceEvent } from '../sources/source.ts';
import type { Commit, History } from './history.ts';
import { Pacer } from './pacer.ts';

/** Compute, as the committer sees it. */
export interface Computing {
  readonly inSync: boolean;
  /** A version for each. */
  apply(source: string, events: readonly SourceEvent[]): readonly Batch[];
  audit(count: number): readonly Batch[];
  inputs(): readonly InputRevision[];
}

/** Who is told of new versions. Resolves when everyone who can take it has been written to. */
export interface Audience {
  /** `commits` may be empty: only the inputs moved on. */
  committed(commits: readonly Commit[]): Promise<void>;
  /** All sources are in sync. Called once, before the first version is told. */
  open(): void;
}

/** Takes what sources tell, and turns it into versions at the pacer's pace. */
export class Committer {
  readonly #computing: Computing;
  readonly #history: History;
  readonly #audience: Audience;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #onCorrected: (services: ReadonlySet<ServiceName>) => void;
  readonly #pacer: Pacer;
  #pending = new Map<string, SourceEvent[]>();
  #auditDue = 0;
  #isOpen = false;

  constructor(options: {
    readonly computing: Computing;
    readonly history: History;
    readonly audience: Audience;
    readonly clock: Clock;
    readonly logger: Logger;
    /** An audit found that compute was wrong about these Services; what is right is a version by now. */
    readonly onCorrected: (services: ReadonlySet<ServiceName>) => void;
    /** Computing or fan-out failed: a bug, after which nothing here can be trusted. */
    readonly onError: (error: unknown) => void;
  }) {
    this.#computing = options.computing;
    this.#history = options.history;
    this.#audience = options.audience;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#onCorrected = options.onCorrected;
    this.#pacer = new Pacer({ run: () => this.#commit(), clock: options.clock, onError: options.onError });
  }

  take(source: string, events: readonly SourceEvent[]): void {
    const pending = this.#pending.get(source);
    if (pending) for (const event of events) pending.push(event);
    else this.#pending.set(source, [...events]);
    this.#pacer.offer();
  }

  /** Looks at so many Services again, and corrects them where that is needed. */
  audit(count: number): void {
    this.#auditDue += count;
    this.#pacer.offer();
  }

  async #commit(): Promise<void> {
    const pending = this.#pending;
    this.#pending = new Map();
    const commits: Commit[] = [];
    // Without a pause: what compute shows must always be the newest version.
    for (const [source, events] of pending) {
      const fromUs = this.#clock.nowUs();
      for (const batch of this.#computing.apply(source, events))
        commits.push(this.#history.commit(batch, this.#clock.nowUs(), fromUs));
    }
    if (!this.#computing.inSync) return;
    const audited = this.#auditDue;
    this.#auditDue = 0;
    for (const correction of audited > 0 ? this.#computing.audit(audited) : []) {
      const commit = this.#history.commit(correction, this.#clock.nowUs());
      commits.push(commit);
      this.#onCorrected(commit.services);
    }
    if (pending.size + commits.length === 0) return;
    if (commits.length === 0) this.#history.advanceInputs(this.#computing.inputs());
    for (const { sequence, services } of commits)
      this.#logger.debug(
        { version: sequence, trace: traceIdOf({ epoch: this.#history.epoch, sequence }), services: services.size },
        'committed',
      );
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.#logger.info({ version: this.#history.head }, 'all sources are in sync: serving');
      this.#audience.open();
    }
    await this.#audience.committed(commits);
  }
}
