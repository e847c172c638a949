import { parseServicePortKey, type ServiceName, type ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { Batch } from '../compute/batch.ts';
import { viewEntry } from '../compute/view-entry.ts';
import type { EndpointIndex } from './endpoint-index.ts';
import { chooses, type EndpointTarget, formatEndpointTarget } from './endpoint-target.ts';
import { type Goal, noNodes, type Verdict } from './goal.ts';
import { isUnknown, type KernelKnowledge, kernelEntries } from './kernel-entries.ts';
import type { Lateness } from './lateness.ts';
import type { NodeRecord } from './node-record.ts';

export interface EndpointGoalOptions {
  readonly target: EndpointTarget;
  /**
   * programmed   every node that is to send new connections there has it in its kernel, and there is one
   * gone         no node's kernel sends new connections there any more, whatever it is told from now on
   */
  readonly state: 'programmed' | 'gone';
  /** Only in this Service; null: in all of them. */
  readonly service: ServiceName | null;
}

/**
 * One endpoint, on every node, exactly: what a node may have in its kernel follows from what it has acknowledged and what was committed since
 * (kernel-entries.ts). What is not known for certain counts as late. It follows the versions: an endpoint that the sources have
 * yet to add or to withdraw is waited for.
 */
export class EndpointGoal implements Goal {
  readonly nobody: string;
  readonly concernsKey = (key: ServicePortKey): boolean => this.#isOfService(key);
  readonly #options: EndpointGoalOptions;
  readonly #knowledge: KernelKnowledge;
  readonly #index: EndpointIndex;
  /** Nodes share entries, so each is searched once. */
  readonly #chooses = new WeakMap<Entry, boolean>();
  #keys: readonly ServicePortKey[];
  #head: number;

  constructor(options: EndpointGoalOptions, knowledge: KernelKnowledge, index: EndpointIndex) {
    this.#options = options;
    this.#knowledge = knowledge;
    this.#index = index;
    this.#head = knowledge.history.head;
    this.#keys = this.#findKeys();
    const { target, state, service } = options;
    const what = `${formatEndpointTarget(target)}${service === null ? '' : ` for ${service}`}`;
    this.nobody =
      state === 'gone' ? noNodes : `no node is told to send connections to ${what}; octoplane explain says why`;
  }

  look(record: NodeRecord): Verdict {
    return this.#options.state === 'gone' ? this.#lookGone(record) : this.#lookProgrammed(record);
  }

  advance(): boolean {
    const { history } = this.#knowledge;
    const commits = history.between(this.#head, history.head);
    this.#head = history.head;
    this.#keys = this.#findKeys();
    return commits === null || commits.some(({ batch }) => this.#turnsIn(batch));
  }

  /** Does a view begin or cease to choose the endpoint? Of what stays, what was said of each node stays, too. */
  #turnsIn(batch: Batch): boolean {
    if (batch.moved.length > 0) return true;
    for (const group of [batch.classes, batch.overlays])
      for (const changes of group.values())
        for (const { key, before, after } of changes)
          if (this.#keys.includes(key) && this.#isChosenBy(before) !== this.#isChosenBy(after)) return true;
    return false;
  }

  whyLate(record: NodeRecord): Lateness | null {
    if (this.#options.state !== 'gone') return null;
    const key = this.#keys.find((one) => this.#isChosenBy(viewEntry(this.#knowledge.views, record.name, one)));
    return key === undefined
      ? null
      : { reason: 'still chosen', words: `is told to send connections there: ${key} still has the endpoint` };
  }

  #lookGone(record: NodeRecord): Verdict {
    if (isUnknown(record, this.#knowledge.history)) return 'late';
    for (const [key, { entry }] of record.refused ?? [])
      if (this.#isOfService(key) && this.#isChosenBy(entry)) return 'late';
    for (const key of this.#keys) {
      const entries = kernelEntries(record, key, this.#knowledge);
      if (entries === null || entries.some((entry) => this.#isChosenBy(entry))) return 'late';
    }
    return 'reached';
  }

  #lookProgrammed(record: NodeRecord): Verdict {
    let isConcerned = false;
    for (const key of this.#keys) {
      if (!this.#isChosenBy(viewEntry(this.#knowledge.views, record.name, key))) continue;
      isConcerned = true;
      const entries = kernelEntries(record, key, this.#knowledge);
      if (entries === null || !entries.every((entry) => this.#isChosenBy(entry))) return 'late';
    }
    return isConcerned ? 'reached' : 'unconcerned';
  }

  #isChosenBy(entry: Entry | null): boolean {
    if (entry === null) return false;
    const known = this.#chooses.get(entry);
    if (known !== undefined) return known;
    const made = chooses(entry, this.#options.target);
    this.#chooses.set(entry, made);
    return made;
  }

  #findKeys(): readonly ServicePortKey[] {
    return [...this.#index.keysOf(this.#options.target.ip)].filter((key) => this.#isOfService(key));
  }

  #isOfService(key: ServicePortKey): boolean {
    const { service } = this.#options;
    return service === null || parseServicePortKey(key)?.service === service;
  }
}
