import { type Fields, isFields } from '@octoplane/model/findings.ts';
import type { Logger } from 'pino';
import { type Clock, systemClock } from '../../clock.ts';
import type { LossGuardOptions } from '../loss-guard.ts';
import { Narrator, type Reading } from '../narrator.ts';
import { type Claim, type Source, SourceError, type SourceEvent } from '../source.ts';
import { GateTable } from './gate-table.ts';
import { type GatedPod, gateLabelSelector, readGatedPod } from './gated-pod.ts';
import { type Gatekeeper, gateClusterOf, podName, podResource } from './gatekeeper.ts';
import { type HeartbeatOptions, heartbeat } from './heartbeat.ts';
import { KubeClient, type KubeClientOptions } from './kube-client.ts';
import { KubeError } from './kube-error.ts';
import { KubeconfigAccess } from './kubeconfig-access.ts';
import { Reflector, type ReflectorOptions } from './reflector.ts';
import { pathOf } from './resource-path.ts';
import { revisionOf } from './revision.ts';
import { keyOf, multiclusterParts, type Part, parts, readObject, watched } from './watched.ts';

export interface KubernetesSourceOptions {
  /** Of the cluster. */
  readonly name: string;
  /** Of the kubeconfig. Empty: the current one, or the pod's own cluster. */
  readonly context: string;
  /** --kubeconfig; null: as kubectl finds it. */
  readonly kubeconfig: string | null;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** What is taken for an accident when a collection is listed again. */
  readonly lossGuard?: LossGuardOptions;
  readonly client?: Pick<KubeClientOptions, 'silentMs'>;
  readonly heartbeat?: Pick<HeartbeatOptions, 'everyMs' | 'silentMs'>;
  readonly reflector?: Pick<ReflectorOptions<never>, 'streaming' | 'pageSize' | 'silentMs'>;
  /** One of several clusters: what it exports is watched too. Default false. */
  readonly multicluster?: boolean;
  /** Opens the readiness gates of Pods. Without one Pods are not watched. */
  readonly gatekeeper?: Gatekeeper;
}

type Emit = (events: readonly SourceEvent[]) => void;

/** A change of an object, or what a list says of it. `reading` null: it is gone; "unchanged": as it was told. */
interface Item {
  readonly key: string;
  readonly revision: number;
  readonly reading: Reading | 'unchanged' | null;
}

/** A Pod with the label of the gate; null: it has none, or is gone. */
interface PodItem {
  readonly name: string;
  readonly pod: GatedPod | null;
}

/** What is watched. */
type Collection = Part | 'pods';

/** How far a collection has been read. */
interface Progress {
  /** Names the state: revision of the list, or of the last change since. */
  readonly named: number;
  /** Nothing changed up to here. */
  readonly reached: number;
}

/**
 * Services, EndpointSlices and Nodes of one cluster, as its API server tells of them (reflector.ts).
 *
 *   1. In sync when all three have been listed. Any of them that is not heard, or a server that does not answer, makes the source stale.
 *   2. `incarnation` is the UID of the namespace kube-system, which is the cluster's. Where the revisions of a cluster go back (restored from a backup) it
 *      gets a suffix, and all is listed again.
 *   3. Revisions are those of each collection by itself, because Kubernetes does not promise that they can be compared across. The one that
 *      is named is that of the last change, not of the last bookmark: replicas see the same changes, and bookmarks when they come. So equal
 *      states have equal names, until one of them lists anew; `catchUp` brings the other one up to it.
 *   4. Pods are watched only where their gates are opened (gate-table.ts); then they count like the other collections.
 *   5. ServiceExports and ServiceImports are watched in one cluster among several. An API server that has no such resources exports nothing.
 *   6. What was deleted is gone at once. What is missing from a list is held back first when it is most of what there was (loss-guard.ts).
 */
export class KubernetesSource implements Source {
  readonly name: string;
  readonly location: string;
  readonly #options: KubernetesSourceOptions;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #narrator: Narrator;
  readonly #gates = new GateTable();
  readonly #parts: readonly Part[];
  readonly #collections: readonly Collection[];
  readonly #reflectors = new Map<Collection, Pick<Reflector<never>, 'relist'>>();
  readonly #progress = new Map<Collection, Progress>();
  readonly #lost = new Map<Collection | 'server', KubeError>();
  #uid: string | null = null;
  #incarnation = '';
  /** Collections that were last listed under the present incarnation: an equal revision means an equal object. */
  readonly #comparable = new Set<Collection>();
  #relistedAtUs = 0;
  #emit: Emit = () => undefined;

  constructor(options: KubernetesSourceOptions) {
    this.name = options.name;
    this.location = `kubernetes:${options.context}`;
    this.#options = options;
    this.#parts = options.multicluster ? [...parts, ...multiclusterParts] : parts;
    this.#collections = options.gatekeeper ? [...this.#parts, 'pods'] : this.#parts;
    this.#logger = options.logger.child({ source: options.name });
    this.#clock = options.clock ?? systemClock;
    this.#narrator = new Narrator({
      logger: this.#logger,
      clock: this.#clock,
      lossGuard: options.lossGuard ?? {},
      onHoldOver: () => this.#tell(this.#narrator.letGo()),
    });
  }

  async run(emit: Emit, signal: AbortSignal): Promise<void> {
    this.#emit = emit;
    const { context, kubeconfig } = this.#options;
    const access = new KubeconfigAccess({ context, file: kubeconfig, clock: this.#clock });
    try {
      await access.context();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new SourceError('KUBECONFIG', `--source ${this.location}: ${reason}.`, { cause });
    }
    const userAgent = 'octoplane-controller';
    const client = new KubeClient({ ...this.#options.client, access, clock: this.#clock, userAgent });
    // A bug in one of them ends all of them.
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const runs = this.#parts.map((part) => this.#reflect(part, client).run(either));
    const { gatekeeper } = this.#options;
    if (gatekeeper) runs.push(this.#reflectPods(gatekeeper, client).run(either));
    runs.push(
      heartbeat(
        { ...this.#options.heartbeat, client, clock: this.#clock, onBeat: (error) => this.#hear('server', error) },
        either,
      ),
    );
    try {
      await Promise.all(runs);
    } finally {
      stop.abort();
      this.#narrator.close();
      client.close();
    }
  }

  /** A node waits for a state that another replica has. What bookmarks vouch for is named; if that was named already, all is listed again. */
  catchUp(): void {
    let moved = false;
    for (const [part, { named, reached }] of this.#progress) {
      if (reached <= named) continue;
      this.#progress.set(part, { named: reached, reached });
      moved = true;
    }
    if (moved) {
      this.#tell([]);
      return;
    }
    const nowUs = this.#clock.nowUs();
    if (nowUs - this.#relistedAtUs < relistEveryUs) return;
    this.#relistedAtUs = nowUs;
    for (const reflector of this.#reflectors.values()) reflector.relist();
  }

  #reflect(part: Part, client: KubeClient): Reflector<Item> {
    const { resource, ...more } = watched[part];
    const reflector = new Reflector<Item>({
      ...this.#options.reflector,
      client,
      path: pathOf(resource),
      ...('labelSelector' in more ? { labelSelector: more.labelSelector } : {}),
      logger: this.#logger,
      clock: this.#clock,
      read: (manifest, change) => this.#read(part, manifest, change === 'removed'),
      beforeList: (signal) => this.#identify(client, signal),
      sink: {
        replaced: (items, revision) => this.#replaced(part, items, revision),
        changed: (items, revision) => this.#changed(part, items, revision),
        reached: (revision) => this.#reached(part, revision),
        lost: (error) => {
          // One that was there once is kept: an API server that starts knows its custom resources late.
          const isOptional = multiclusterParts.includes(part) && !this.#progress.has(part);
          if (error?.code === 'NOT_FOUND' && isOptional) this.#lack(part);
          else this.#hear(part, error);
        },
      },
    });
    this.#reflectors.set(part, reflector);
    return reflector;
  }

  #reflectPods(gatekeeper: Gatekeeper, client: KubeClient): Reflector<PodItem> {
    const cluster = gateClusterOf(this.name, client);
    const put = (items: readonly PodItem[]): void => {
      const told = new Map<string, Reading>();
      for (const { name, pod } of items) {
        for (const reading of this.#gates.putPod(name, pod)) told.set(reading.key, reading);
        gatekeeper.podChanged(cluster, name, pod);
      }
      this.#tell(this.#narrator.put([...told.values()]));
    };
    const reflector = new Reflector<PodItem>({
      ...this.#options.reflector,
      client,
      path: pathOf(podResource),
      labelSelector: gateLabelSelector,
      logger: this.#logger,
      clock: this.#clock,
      read: (manifest, change) => ({
        name: podName(manifest),
        pod: change === 'removed' ? null : readGatedPod(manifest),
      }),
      beforeList: (signal) => this.#identify(client, signal),
      sink: {
        replaced: (items, revision) => {
          if (this.#wentBack('pods', revision)) return;
          const present = new Set(items.map(({ name }) => name));
          const gone = Array.from(this.#gates.pods.keys()).filter((name) => !present.has(name));
          put([...items, ...gone.map((name) => ({ name, pod: null }))]);
        },
        changed: (items, revision) => {
          this.#progress.set('pods', { named: revision, reached: revision });
          put(items);
        },
        reached: (revision) => this.#reached('pods', revision),
        lost: (error) => this.#hear('pods', error),
      },
    });
    this.#reflectors.set('pods', reflector);
    return reflector;
  }

  #read(part: Part, manifest: Fields, isRemoved: boolean): Item {
    const key = keyOf(part, manifest);
    const revision = revisionOf(manifest) ?? 0;
    if (isRemoved) return { key, revision, reading: null };
    const isKnown = revision !== 0 && this.#comparable.has(part) && this.#narrator.table.revisionOf(key) === revision;
    if (isKnown) return { key, revision, reading: 'unchanged' };
    return { key, revision, reading: { key, revision, read: readObject(part, manifest, revision) } };
  }

  #replaced(part: Part, items: readonly Item[], revision: number): void {
    if (this.#wentBack(part, revision)) return;
    const present = new Set<string>();
    const readings = new Map<string, Reading>();
    for (const { key, reading } of items) {
      if (reading === null) present.delete(key);
      else present.add(key);
      if (reading === null || reading === 'unchanged') readings.delete(key);
      else readings.set(key, this.#gates.put(reading));
    }
    if (part === 'endpointslices') this.#gates.keepSlices(present);
    const events = [...this.#narrator.put([...readings.values()])];
    this.#narrator.listed(present, (key) => key.startsWith(`${part}/`), revision);
    for (const event of this.#narrator.letGo()) events.push(event);
    this.#tell(events);
  }

  #changed(part: Part, items: readonly Item[], revision: number): void {
    const events: SourceEvent[] = [];
    for (const item of items) {
      const { key, reading } = item;
      if (reading === 'unchanged') continue;
      if (reading === null) this.#gates.remove(key);
      const told =
        reading === null ? this.#narrator.remove(key, item.revision) : this.#narrator.put([this.#gates.put(reading)]);
      for (const event of told) events.push(event);
    }
    this.#progress.set(part, { named: revision, reached: revision });
    for (const event of this.#narrator.letGo()) events.push(event);
    this.#tell(events);
  }

  /** Notes how far a list has come; true: it is behind what was read before, and everything begins anew. */
  #wentBack(part: Collection, revision: number): boolean {
    const before = this.#progress.get(part)?.reached ?? 0;
    if (this.#comparable.has(part) && revision < before) {
      this.#logger.warn({ from: before, to: revision }, 'the revision of the cluster went back: was it restored?');
      this.#begin(`${this.#uid}@${revision}`);
      return true;
    }
    this.#comparable.add(part);
    this.#progress.set(part, { named: revision, reached: revision });
    return false;
  }

  #reached(part: Collection, revision: number): void {
    const progress = this.#progress.get(part);
    if (progress) this.#progress.set(part, { ...progress, reached: revision });
  }

  /** The API server has no such resource, and never had: nothing is exported. It is asked again, in case that changes. */
  #lack(part: Part): void {
    if (this.#comparable.has(part)) return;
    this.#comparable.add(part);
    this.#tell([]);
  }

  #hear(who: Collection | 'server', error: KubeError | null): void {
    if (error === null && !this.#lost.delete(who)) return;
    if (error !== null) this.#lost.set(who, error);
    this.#tell([]);
  }

  /** Which cluster is it? One that may not be asked has no name, and is taken for the same always. */
  async #identify(client: KubeClient, signal: AbortSignal): Promise<void> {
    const uid = await clusterUid(client, signal);
    if (uid === null)
      this.#logger.info('the UID of namespace kube-system cannot be read: revisions are not told apart by cluster');
    const name = uid ?? 'cluster';
    if (name === this.#uid) return;
    if (this.#uid !== null) this.#logger.warn({ from: this.#uid, to: name }, 'another cluster answers');
    this.#uid = name;
    this.#begin(name);
  }

  /** Nothing that was read before can be compared with what will be read. */
  #begin(incarnation: string): void {
    this.#incarnation = incarnation;
    const others = [...this.#comparable];
    this.#comparable.clear();
    for (const part of others) this.#reflectors.get(part)?.relist();
  }

  #tell(events: readonly SourceEvent[]): void {
    const [error] = this.#lost.values();
    this.#narrator.tell(events, { claim: this.#claim(), stale: error?.message ?? null }, this.#emit);
  }

  /** Null until all of it has been listed, and while some of it is from before the present incarnation. */
  #claim(): Claim | null {
    if (this.#collections.some((part) => !this.#comparable.has(part))) return null;
    const named = Object.fromEntries(Array.from(this.#progress, ([part, progress]) => [part, progress.named]));
    return { incarnation: this.#incarnation, revision: Math.max(...Object.values(named)), parts: named };
  }
}

/** A list of everything is dear: however many nodes wait, not more often. */
const relistEveryUs = 30_000_000;

async function clusterUid(client: KubeClient, signal: AbortSignal): Promise<string | null> {
  try {
    const namespace = await client.get('/api/v1/namespaces/kube-system', signal);
    const metadata = isFields(namespace['metadata']) ? namespace['metadata'] : {};
    return typeof metadata['uid'] === 'string' ? metadata['uid'] : null;
  } catch (error) {
    if (error instanceof KubeError && (error.code === 'FORBIDDEN' || error.code === 'NOT_FOUND')) return null;
    throw error;
  }
}
