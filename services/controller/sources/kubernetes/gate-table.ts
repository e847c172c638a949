import type { EndpointSlice, SliceEndpoint } from '@octoplane/model/objects.ts';
import type { Reading } from '../narrator.ts';
import type { GatedPod } from './gated-pod.ts';

/**
 * Solves the circle of a readiness gate: a Pod is not ready before nodes route to it, and nodes route to what is ready. An endpoint whose
 * Pod lacks nothing but our gate is taken for ready, so it is programmed, acknowledged, and only then the gate opens. The endpoint becomes
 * ready in its slice after that, which changes no rule.
 *
 * Pure: it is given what the API server tells of Pods and slices, and answers with what to tell of slices. It keeps the slices
 * that have an endpoint with a gated Pod, or with one that may turn out to be.
 */
export class GateTable {
  readonly #pods = new Map<string, GatedPod>();
  /** As the API server has them. */
  readonly #slices = new Map<string, { readonly reading: Reading; readonly pods: ReadonlySet<string> }>();
  readonly #slicesOfPod = new Map<string, Set<string>>();

  get pods(): ReadonlyMap<string, GatedPod> {
    return this.#pods;
  }

  /** Null: it is gone, or has no gate. The answer: slices that are to be told anew. */
  putPod(name: string, pod: GatedPod | null): readonly Reading[] {
    const before = this.#pods.get(name)?.lacksOnlyGate ?? false;
    if (pod === null) this.#pods.delete(name);
    else this.#pods.set(name, pod);
    if (before === (pod?.lacksOnlyGate ?? false)) return [];
    return Array.from(this.#slicesOfPod.get(name) ?? []).flatMap((key) => {
      const known = this.#slices.get(key);
      return known ? [this.#applied(known.reading)] : [];
    });
  }

  /** What to tell of a slice, or of anything else, instead of what was read. */
  put(reading: Reading): Reading {
    this.remove(reading.key);
    const slice = sliceOf(reading);
    if (slice === null) return reading;
    const pods = new Set(slice.endpoints.flatMap((endpoint) => podOf(slice, endpoint) ?? []));
    if (pods.size === 0) return reading;
    this.#slices.set(reading.key, { reading, pods });
    for (const pod of pods) {
      const slices = this.#slicesOfPod.get(pod);
      if (slices) slices.add(reading.key);
      else this.#slicesOfPod.set(pod, new Set([reading.key]));
    }
    return this.#applied(reading);
  }

  /** A list is complete. */
  keepSlices(present: ReadonlySet<string>): void {
    for (const key of this.#slices.keys()) if (!present.has(key)) this.remove(key);
  }

  remove(key: string): void {
    for (const pod of this.#slices.get(key)?.pods ?? []) {
      const slices = this.#slicesOfPod.get(pod);
      slices?.delete(key);
      if (slices?.size === 0) this.#slicesOfPod.delete(pod);
    }
    this.#slices.delete(key);
  }

  #applied(reading: Reading): Reading {
    const slice = sliceOf(reading);
    if (slice === null || reading.read.t !== 'object') return reading;
    const endpoints = slice.endpoints.map((endpoint): SliceEndpoint => {
      const pod = podOf(slice, endpoint);
      const isGated = pod !== null && (this.#pods.get(pod)?.lacksOnlyGate ?? false);
      return isGated ? { ...endpoint, ready: true, serving: true, gated: true } : endpoint;
    });
    const object = { kind: 'EndpointSlice', slice: { ...slice, endpoints } } as const;
    return { ...reading, read: { ...reading.read, object } };
  }
}

const sliceOf = ({ read }: Reading): EndpointSlice | null =>
  read.t === 'object' && read.object.kind === 'EndpointSlice' ? read.object.slice : null;

/** "NAMESPACE/NAME": a slice and its Pods share a namespace. */
const podOf = (slice: EndpointSlice, { pod }: SliceEndpoint): string | null =>
  pod === undefined ? null : `${slice.name.slice(0, slice.name.indexOf('/'))}/${pod}`;
