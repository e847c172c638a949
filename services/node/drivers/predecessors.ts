import type { EntryChange } from '@octoplane/model/delta.ts';
import type { RuleSet } from '@octoplane/model/rule-set.ts';
import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import { driftOf } from '../reconcile/drift.ts';
import { Serial } from '../reconcile/serial.ts';
import type { Connection, Driver, DriverModule, DriverName, DriverOptions, Retired } from './driver.ts';
import type { DriverRegistry } from './registry.ts';
import type { DriverTrace, Other } from './trace.ts';

export interface PredecessorsOptions {
  readonly trace: DriverTrace;
  readonly registry: DriverRegistry;
  readonly optionsFor: (name: DriverName) => DriverOptions;
  /** The driver in use. */
  readonly successor: DriverModule;
  /** Removes what kube-proxy has left. */
  readonly removeKubeProxy: (logger: Logger) => Promise<void>;
  readonly netfilter: NetfilterConnections;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How often it is asked whether the connections of a predecessor have ended. */
  readonly syncPeriodMs: number;
}

/** Connections that netfilter translates for whomever. */
export interface NetfilterConnections {
  /** Is there one? */
  any(): boolean;
  /** Tells of connections that began without it. */
  track(connections: readonly Connection[]): void;
  /** Lets them go on without the rules that made them. */
  keep(): Promise<void>;
  /** Netfilter has no need to, any more. */
  letGo(): Promise<void>;
}

/**
 * Whoever had rules here before the driver in use. Once ours is in place they take no new connections (P47); established ones stay
 * where they are, and with them as much of a predecessor as they need, until the last has ended:
 *   - connections that netfilter translates need no rules, only that netfilter goes on translating. With a driver that does
 *     that by itself they are left to it, otherwise one rule that does nothing keeps them;
 *   - a driver that translates by itself is retired.
 * All of it is found again after a restart.
 */
export class Predecessors {
  readonly #options: PredecessorsOptions;
  readonly #others: readonly Other[];
  readonly #left: Set<Other>;
  readonly #retired = new Map<DriverName, { readonly driver: Driver; readonly retired: Retired }>();
  readonly #serial = new Serial();

  /** `others`: who may have been here. */
  constructor(options: PredecessorsOptions, others: readonly Other[]) {
    this.#options = options;
    this.#others = others;
    this.#left = new Set(others);
  }

  /** Netfilter has connections although the driver in use does without: stale ones are to be deleted all the same (P30). */
  get keepsConnections(): boolean {
    return this.#options.successor.flows === 'own' && this.#left.has('connection-keeper');
  }

  /** The rule set of the driver in use has changed. */
  follow(changes: readonly EntryChange[]): void {
    if (this.#retired.size === 0) return;
    void this.#serial.run(async () => {
      for (const [name, { retired }] of this.#retired)
        await this.#attempt(name, 'does not follow the rule set', () => retired.follow(changes));
    });
  }

  /** Ours is in place. Returns when nothing of them is left, or the signal is aborted. */
  async replace(wanted: () => RuleSet, signal: AbortSignal): Promise<void> {
    if (this.#others.length === 0) return;
    await this.#serial.run(() => this.#replaceAll(wanted));
    while (this.#waiting() && !signal.aborted) {
      await this.#options.clock.after(this.#options.syncPeriodMs, signal).catch(() => undefined);
      if (!signal.aborted) await this.#serial.run(() => this.#look());
    }
  }

  async close(): Promise<void> {
    await this.#serial.run(async () => {
      for (const { driver } of this.#retired.values()) await driver.close();
      this.#retired.clear();
    });
  }

  /** Those that failed are not waited for, but tried again at the next start. */
  #waiting(): boolean {
    return this.#retired.size > 0 || this.keepsConnections;
  }

  async #replaceAll(wanted: () => RuleSet): Promise<void> {
    const { netfilter, successor, removeKubeProxy, logger } = this.#options;
    if (!(await this.#attempt('connection-keeper', 'established connections may be lost', () => this.#keep()))) return;
    for (const name of this.#others) {
      if (name === 'kube-proxy') {
        if (await this.#attempt(name, 'its rules could not be removed', () => removeKubeProxy(logger)))
          this.#left.delete(name);
      } else if (name !== 'connection-keeper') await this.#replaceDriver(name, wanted);
    }
    if (successor.flows === 'netfilter' && this.#left.has('connection-keeper')) {
      if (await this.#attempt('connection-keeper', 'it could not be removed', () => netfilter.letGo()))
        this.#left.delete('connection-keeper');
    }
    this.#note();
  }

  /** Before rules that netfilter goes by are removed. */
  async #keep(): Promise<void> {
    const { netfilter, successor, logger } = this.#options;
    if (successor.flows === 'netfilter') return;
    if (!netfilter.any()) return this.#letGo();
    this.#left.add('connection-keeper');
    this.#note();
    await netfilter.keep();
    logger.info('connections that netfilter translates go on until they end');
  }

  async #letGo(): Promise<void> {
    if (!this.#left.has('connection-keeper')) return;
    await this.#options.netfilter.letGo();
    this.#left.delete('connection-keeper');
    this.#options.logger.info('netfilter translates no connections any more');
  }

  async #replaceDriver(name: DriverName, wanted: () => RuleSet): Promise<void> {
    const { registry, optionsFor, logger } = this.#options;
    const module = await registry.get(name)?.();
    const options = optionsFor(name);
    const probe = await module?.probe(options);
    if (module === undefined || probe?.t !== 'able') {
      logger.debug({ driver: name, probe }, 'this driver cannot run here and has left nothing');
      this.#left.delete(name);
      return;
    }
    await this.#attempt(name, 'its rules could not be removed', async () => {
      const driver = await module.open(options);
      try {
        await this.#retire(name, driver, wanted);
      } finally {
        if (!this.#retired.has(name)) await driver.close();
      }
    });
  }

  async #retire(name: DriverName, driver: Driver, wanted: () => RuleSet): Promise<void> {
    const { logger, netfilter } = this.#options;
    const retired = driver.retire
      ? await driver.retire((connections) => netfilter.track(connections))
      : await driver.cleanup();
    if (!retired) return this.#forget(name);
    const drift = driftOf(driver, await driver.dump(), wanted());
    if (drift.length > 0) await retired.follow(drift);
    this.#retired.set(name, { driver, retired });
    logger.info({ driver: name }, 'retired: its connections go on until they end');
  }

  async #look(): Promise<void> {
    const { netfilter } = this.#options;
    for (const [name, { driver, retired }] of this.#retired)
      await this.#attempt(name, 'it could not be asked for its connections', async () => {
        if (!(await retired.ended())) return;
        this.#forget(name);
        await driver.close();
      });
    if (this.keepsConnections)
      await this.#attempt('connection-keeper', 'conntrack could not be asked', async () => {
        if (!netfilter.any()) await this.#letGo();
      });
    this.#note();
  }

  #forget(name: DriverName): void {
    this.#retired.delete(name);
    this.#left.delete(name);
    this.#options.logger.info({ driver: name }, 'no rules of this driver are left');
  }

  #note(): void {
    this.#options.trace.leave(this.#left);
  }

  async #attempt(who: Other, problem: string, act: () => Promise<void>): Promise<boolean> {
    try {
      await act();
      return true;
    } catch (error) {
      this.#options.logger.error({ err: error, predecessor: who }, `${problem}; it is tried again at the next start`);
      return false;
    }
  }
}
