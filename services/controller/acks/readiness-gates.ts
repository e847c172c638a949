import type { Ip } from '@octoplane/model/address.ts';
import type { Logger } from 'pino';
import type { Cancel } from '../clock.ts';
import { Backoff } from '../sources/backoff.ts';
import { type GatedPod, gateCondition } from '../sources/kubernetes/gated-pod.ts';
import type { GateCluster, Gatekeeper } from '../sources/kubernetes/gatekeeper.ts';
import { KubeError } from '../sources/kubernetes/kube-error.ts';
import { EndpointGoal } from './endpoint-goal.ts';
import type { EndpointIndex } from './endpoint-index.ts';
import { type Following, type FollowSurroundings, follow } from './follow.ts';
import { whyLate } from './goal.ts';
import type { KernelKnowledge } from './kernel-entries.ts';
import { neverConnected } from './lateness.ts';
import { parseSelectors } from './selectors.ts';
import type { WaitProgress } from './wait.ts';

export interface ReadinessGatesOptions extends FollowSurroundings, KernelKnowledge {
  readonly endpoints: EndpointIndex;
  readonly logger: Logger;
  /** ControllerOptions.readinessGates */
  readonly ignoreGoneMs: number;
  /** Not ControllerOptions.gatesKnowAll. */
  readonly everyNode: boolean;
  /** Aborted when the controller goes away. Gates that are closed then stay closed until it is back. */
  readonly signal: AbortSignal;
}

/**
 * A gate that stays closed is looked at after 5 s, because whoever asks then why his Pod is not Ready finds the late nodes in the condition; most gates open
 * sooner, and cost one write. After 10 s more, and from then on every 30 s, a Pod that no node is told to route to is let through: it is in no Service. If it
 * were, its slice would have come long ago, because a Pod has its address before its containers are ready.
 */
const firstChecksMs: readonly number[] = [5_000, 10_000];
const laterChecksMs = 30_000;
const namedNodes = 5;

/** A gate that is to be opened. */
interface Waiting {
  readonly uid: string;
  readonly stop: AbortController;
}

/**
 * Opens readiness gates: the condition octoplane.io/programmed of a Pod becomes True when every node that is to route to it has it in its
 * kernel (endpoint-goal.ts, at the Pod's first address, whatever its ports).
 *
 *   1. A gate opens once, for the Pod's life. Were it to follow the nodes, one that is slow would take every Pod of the cluster out of service.
 *   2. It stays closed while a node is late or refuses the entry: a rollout stops there, with the nodes named in the condition. A node
 *      that is disconnected for longer than `ignoreGoneMs` holds up nobody.
 *   3. A Pod that no node is to route to is let through: it is of no Service, or of a headless one.
 *   4. Writes are tried again until they are done or the Pod is gone. Two controllers write the same.
 */
export class ReadinessGates implements Gatekeeper {
  readonly #options: ReadinessGatesOptions;
  readonly #waiting = new Map<string, Waiting>();

  constructor(options: ReadinessGatesOptions) {
    this.#options = options;
  }

  /** Gates that are closed though their Pods are ready for them. */
  get size(): number {
    return this.#waiting.size;
  }

  podChanged(cluster: GateCluster, name: string, pod: GatedPod | null): void {
    const key = `${cluster.name}/${name}`;
    const waiting = this.#waiting.get(key);
    const ip = pod?.lacksOnlyGate && !pod.isOpen ? pod.ips[0] : undefined;
    if (ip !== undefined && waiting?.uid === pod?.uid) return;
    waiting?.stop.abort();
    this.#waiting.delete(key);
    if (!pod || ip === undefined) return;
    const stop = new AbortController();
    this.#waiting.set(key, { uid: pod.uid, stop });
    this.#wait(cluster, pod, ip, AbortSignal.any([stop.signal, this.#options.signal]));
  }

  #wait(cluster: GateCluster, pod: GatedPod, ip: Ip, signal: AbortSignal): void {
    const { clock, logger, endpoints, ignoreGoneMs, everyNode } = this.#options;
    const target = { ip, port: null };
    const goal = new EndpointGoal({ target, state: 'programmed', service: null }, this.#options, endpoints);
    const rules = { selection: parseSelectors([]), quorum: { t: 'all' } as const, ignoreGoneMs, everyNode };
    const write = this.#writer(cluster, pod, signal);
    const open = (reason: string, message: string) => {
      end();
      logger.info({ cluster: cluster.name, pod: pod.name, reason }, 'a readiness gate opens');
      write({ status: 'True', reason, message });
    };
    const following: Following = follow(this.#options, {
      goal,
      rules,
      reports: 'last',
      report(progress) {
        open('Programmed', `on ${progress.programmed} of ${progress.nodes} nodes`);
        return true;
      },
    });
    let cancelCheck: Cancel = () => undefined;
    const checkIn = ([ms = laterChecksMs, ...rest]: readonly number[]) => {
      cancelCheck = clock.after(ms, () => {
        const progress = following.progress();
        if (progress.nobody === null)
          write({ status: 'False', reason: 'NotProgrammed', message: this.#describe(progress, goal) });
        else if (rest.length === 0) {
          open('NotRouted', progress.nobody);
          return;
        }
        checkIn(rest);
      });
    };
    checkIn(firstChecksMs);
    const end = () => {
      following.stop();
      cancelCheck();
    };
    signal.addEventListener('abort', end, { once: true });
  }

  #describe({ programmed, nodes, late, unknown, settlingMs }: WaitProgress, goal: EndpointGoal): string {
    const { history, clock } = this.#options;
    const nowUs = clock.nowUs();
    const words = late.map((record) => `${record.name} (${whyLate(goal, record, history, nowUs).words})`);
    for (const { name, hasNodeObject } of unknown) words.push(`${name} (${neverConnected(hasNodeObject).words})`);
    const named = words.slice(0, namedNodes);
    const more = words.length > named.length ? ` and ${words.length - named.length} more` : '';
    const settling = settlingMs > 0 ? '; the controller has just started and waits for nodes to come back' : '';
    return `on ${programmed} of ${nodes} nodes${named.length > 0 ? `; late: ${named.join(', ')}${more}` : ''}${settling}`;
  }

  /** Writes one condition after the other; of those that wait the newest. */
  #writer(cluster: GateCluster, pod: GatedPod, signal: AbortSignal): (condition: Condition) => void {
    let wanted: Condition | null = null;
    let isWriting = false;
    const writeAll = async () => {
      const { clock, logger } = this.#options;
      const backoff = new Backoff(clock);
      let trouble = '';
      while (wanted !== null && !signal.aborted) {
        const condition: Condition = wanted;
        try {
          await cluster.patchStatus(pod, { conditions: [stamped(condition, clock.nowUs())] }, signal);
          if (wanted === condition) wanted = null;
        } catch (error) {
          if (signal.aborted) break;
          if (!(error instanceof KubeError)) throw error;
          // The Pod is gone, and perhaps another has its name; its watch says so, too.
          if (error.code === 'NOT_FOUND' || error.code === 'CONFLICT') break;
          if (trouble !== error.message)
            logger.warn({ cluster: cluster.name, pod: pod.name, err: error }, 'a readiness gate is not written');
          trouble = error.message;
          await backoff.wait(signal, error.retryAfterMs ?? 0);
        }
      }
      isWriting = false;
    };
    return (condition) => {
      wanted = condition;
      if (isWriting) return;
      isWriting = true;
      void writeAll();
    };
  }
}

interface Condition {
  readonly status: 'True' | 'False';
  readonly reason: string;
  readonly message: string;
}

const stamped = (condition: Condition, nowUs: number) => ({
  type: gateCondition,
  ...condition,
  lastTransitionTime: new Date(nowUs / 1000).toISOString().replace(/\.\d+/, ''),
});
