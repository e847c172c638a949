import type { KubeApiServer } from './kube-api-server.ts';
import { type Manifest, parsed, recordOf } from './store.ts';

export interface PodPlan {
  readonly name: string;
  readonly ip: string;
  readonly node: string;
}

interface Pod extends PodPlan {
  containersReady: boolean;
  ready: boolean;
  deleting: boolean;
}

const gate = 'octoplane.io/programmed';
const port = 8080;

/**
 * What kubelet and the EndpointSlice controller make of the Pods of one Service, by their rules: a Pod is Ready when its containers are and its gate
 * is open; its endpoint is ready when it is Ready and is not being deleted, and serves for as long as it is Ready.
 */
export class Deployment {
  readonly #api: KubeApiServer;
  readonly #service: string;
  readonly #pods = new Map<string, Pod>();
  readonly #waiting = new Set<() => void>();
  readonly #stop: () => void;

  constructor(api: KubeApiServer, service: string) {
    this.#api = api;
    this.#service = service;
    const pods = api.store.collection(api.resource('pods'));
    // In a turn of its own: it writes, and a listener is within a write.
    const look = () => void setImmediate(() => this.#reconcile());
    pods.listeners.add(look);
    this.#stop = () => pods.listeners.delete(look);
  }

  /** A Pod that is scheduled and has its address; its containers have yet to start. */
  create(plan: PodPlan): void {
    this.#pods.set(plan.name, { ...plan, containersReady: false, ready: false, deleting: false });
    this.#writePod(plan.name);
    this.#writeSlice();
  }

  containersReady(name: string): void {
    this.#pod(name).containersReady = true;
    this.#writePod(name);
  }

  untilReady(name: string): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!this.#pod(name).ready) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
      look();
    });
  }

  /** Its preStop hooks run from now on. */
  delete(name: string): void {
    this.#pod(name).deleting = true;
    this.#writePod(name);
    this.#writeSlice();
  }

  /** Its containers have ended. */
  ended(name: string): void {
    this.#pods.delete(name);
    this.#api.remove('pods', `default/${name}`);
    this.#writeSlice();
  }

  conditionOf(name: string): Readonly<Record<string, unknown>> {
    return this.#conditions(name).find(({ type }) => type === gate) ?? {};
  }

  close(): void {
    this.#stop();
  }

  #reconcile(): void {
    for (const [name, pod] of this.#pods) {
      const ready = pod.containersReady && this.conditionOf(name)['status'] === 'True';
      if (ready === pod.ready) continue;
      pod.ready = ready;
      this.#writePod(name);
      this.#writeSlice();
    }
    for (const look of this.#waiting) look();
  }

  #pod(name: string): Pod {
    const pod = this.#pods.get(name);
    if (!pod) throw new RangeError(`there is no Pod ${name}`);
    return pod;
  }

  #conditions(name: string): readonly Manifest[] {
    const stored = this.#api.store.collection(this.#api.resource('pods')).get(`default/${name}`);
    const conditions = recordOf(stored ? parsed(stored)['status'] : null)['conditions'];
    return Array.isArray(conditions) ? (conditions as Manifest[]) : [];
  }

  #writePod(name: string): void {
    const { ip, containersReady, ready, deleting } = this.#pod(name);
    const ours = this.#conditions(name).filter(({ type }) => type === gate);
    const condition = (type: string, isTrue: boolean) => ({ type, status: isTrue ? 'True' : 'False' });
    this.#api.put('pods', {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name,
        namespace: 'default',
        labels: { 'octoplane.io/gate': 'programmed' },
        ...(deleting ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
      },
      spec: { readinessGates: [{ conditionType: gate }] },
      status: {
        podIPs: [{ ip }],
        conditions: [condition('ContainersReady', containersReady), condition('Ready', ready), ...ours],
      },
    });
  }

  #writeSlice(): void {
    this.#api.put('endpointslices', {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: `${this.#service}-1`,
        namespace: 'default',
        labels: { 'kubernetes.io/service-name': this.#service },
      },
      addressType: 'IPv4',
      ports: [{ name: '', port, protocol: 'TCP' }],
      endpoints: Array.from(this.#pods.values(), ({ name, ip, node, ready, deleting }) => ({
        addresses: [ip],
        nodeName: node,
        conditions: { ready: ready && !deleting, serving: ready, terminating: deleting },
        targetRef: { kind: 'Pod', namespace: 'default', name },
      })),
    });
  }
}
