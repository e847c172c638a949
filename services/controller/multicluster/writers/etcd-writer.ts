import { type Fields, isFields } from '@octoplane/model/findings.ts';
import type { Clock } from '../../clock.ts';
import { EtcdError } from '../../sources/etcd/etcd-error.ts';
import { EtcdStore } from '../../sources/etcd/etcd-store.ts';
import type { EtcdMembers } from '../../sources/etcd/members.ts';
import type { Condition } from '../../sources/etcd/transactions.ts';
import type { Write } from '../due-writes.ts';
import { conditionsManifest } from '../import-manifest.ts';
import { ClusterWriteError, type ClusterWriter } from '../recorder.ts';

/** Writes ServiceImports and conditions into etcd. `guard`: holds while this controller leads, where that can be asked of this etcd. */
export class EtcdWriter implements ClusterWriter {
  readonly #members: EtcdMembers;
  readonly #clock: Clock;
  readonly #guard: Condition | null;

  constructor(members: EtcdMembers, clock: Clock, guard: Condition | null) {
    this.#members = members;
    this.#clock = clock;
    this.#guard = guard;
  }

  async write(write: Write, signal: AbortSignal): Promise<void> {
    const nowMs = (): number => this.#clock.nowUs() / 1000;
    try {
      await this.#members.use((client) => this.#write(new EtcdStore(client, [], nowMs, this.#guard), write, signal));
    } catch (error) {
      throw error instanceof EtcdError ? new ClusterWriteError(error.message, { cause: error }) : error;
    }
  }

  async #write(store: EtcdStore, write: Write, signal: AbortSignal): Promise<void> {
    switch (write.t) {
      case 'put import':
        await store.apply(write.manifest, signal);
        return;
      case 'delete import':
        await store.delete({ kind: 'ServiceImport', name: write.name }, signal);
        return;
      case 'put conditions':
        await store.change(
          { kind: 'ServiceExport', name: write.name },
          (manifest) => this.#withConditions(manifest, write),
          signal,
        );
    }
  }

  #withConditions(manifest: Fields, { conditions }: Write & { readonly t: 'put conditions' }): Fields {
    const status = isFields(manifest['status']) ? manifest['status'] : {};
    const before = Array.isArray(status['conditions']) ? status['conditions'] : [];
    const after = conditionsManifest(conditions, before, this.#clock.nowUs() / 1000);
    return { ...manifest, status: { ...status, conditions: after } };
  }
}
