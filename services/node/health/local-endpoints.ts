import type { EntryChange } from '@octoplane/model/delta.ts';
import { parseServicePortKey, type ServiceName, type ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, endpointFlags } from '@octoplane/model/rule-set.ts';

/** What a Service's health check node port tells. */
export interface LocalService {
  readonly name: ServiceName;
  readonly port: number;
  /** Ready endpoints on this node: addresses, counted once however many ports they serve. */
  readonly localEndpoints: number;
}

/** Follows the Services that have a health check node port, at a cost that follows the changes. */
export class LocalEndpoints {
  readonly #entries = new Map<ServiceName, Map<ServicePortKey, Entry>>();

  /** Returns the Services concerned; null: one that no longer has a health check node port. */
  update(changes: readonly EntryChange[]): ReadonlyMap<ServiceName, LocalService | null> {
    const concerned = new Set<ServiceName>();
    for (const { key, before, after } of changes) {
      if (!before?.spec.healthCheckNodePort && !after?.spec.healthCheckNodePort) continue;
      const name = parseServicePortKey(key)?.service;
      if (name === undefined) continue;
      concerned.add(name);
      const entries = this.#entries.get(name) ?? new Map<ServicePortKey, Entry>();
      this.#entries.set(name, entries);
      if (after?.spec.healthCheckNodePort) entries.set(key, after);
      else entries.delete(key);
      if (entries.size === 0) this.#entries.delete(name);
    }
    return new Map(Array.from(concerned, (name) => [name, this.#of(name)]));
  }

  #of(name: ServiceName): LocalService | null {
    const entries = this.#entries.get(name);
    const first = entries?.values().next().value;
    if (!entries || !first) return null;
    const ips = new Set<string>();
    for (const { endpoints } of entries.values())
      for (const { ip, flags } of endpoints) if (isLocalAndReady(flags)) ips.add(ip);
    return { name, port: first.spec.healthCheckNodePort, localEndpoints: ips.size };
  }
}

/** Terminating endpoints serve, but do not draw traffic from a load balancer (P27). */
const isLocalAndReady = (flags: number): boolean =>
  (flags & endpointFlags.local) !== 0 && (flags & (endpointFlags.terminating | endpointFlags.draining)) === 0;
