import { type Fields, isFields } from '@octoplane/model/findings.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import type { Clock } from '../../clock.ts';
import type { KubeClient } from '../../sources/kubernetes/kube-client.ts';
import { KubeError } from '../../sources/kubernetes/kube-error.ts';
import { type Place, pathOf } from '../../sources/kubernetes/resource-path.ts';
import type { Write } from '../due-writes.ts';
import { conditionsManifest } from '../import-manifest.ts';
import { ClusterWriteError, type ClusterWriter } from '../recorder.ts';

const group = { group: 'multicluster.x-k8s.io', version: 'v1alpha1' };
const imports = { ...group, plural: 'serviceimports' };
const exports = { ...group, plural: 'serviceexports' };

/** Writes ServiceImports and the conditions of ServiceExports through an API server. A namespace that the cluster has not got needs no import. */
export class KubeWriter implements ClusterWriter {
  readonly #client: KubeClient;
  readonly #clock: Clock;

  constructor(client: KubeClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  async write(write: Write, signal: AbortSignal): Promise<void> {
    try {
      await this.#write(write, signal);
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      throw new ClusterWriteError(error.message, { cause: error });
    }
  }

  async #write(write: Write, signal: AbortSignal): Promise<void> {
    const place = placeOf(write.name);
    switch (write.t) {
      case 'put import':
        return this.#putImport(place, write.manifest, signal);
      case 'delete import':
        await this.#unlessGone(() => this.#client.delete(pathOf(imports, place), signal));
        return;
      case 'put conditions': {
        const found = await this.#unlessGone(() => this.#client.get(pathOf(exports, place), signal));
        if (found === null) return;
        const status = isFields(found['status']) ? found['status'] : {};
        const before = Array.isArray(status['conditions']) ? status['conditions'] : [];
        const conditions = conditionsManifest(write.conditions, before, this.#clock.nowUs() / 1000);
        const patch = { status: { conditions } };
        await this.#unlessGone(() =>
          this.#client.patch(pathOf(exports, { ...place, subresource: 'status' }), patch, signal),
        );
      }
    }
  }

  async #putImport(place: Place, { status, ...manifest }: Fields, signal: AbortSignal): Promise<void> {
    const { namespace = null } = place;
    const found = await this.#unlessGone(() => this.#client.get(pathOf(imports, place), signal));
    const written = await this.#unlessGone(() =>
      found === null
        ? this.#client.create(pathOf(imports, { namespace }), manifest, signal)
        : this.#client.update(pathOf(imports, place), { ...manifest, metadata: found['metadata'] }, signal),
    );
    if (written === null) return;
    const path = pathOf(imports, { ...place, subresource: 'status' });
    await this.#unlessGone(() => this.#client.patch(path, { status }, signal));
  }

  async #unlessGone(act: () => Promise<Fields>): Promise<Fields | null> {
    try {
      return await act();
    } catch (error) {
      if (error instanceof KubeError && error.code === 'NOT_FOUND') return null;
      throw error;
    }
  }
}

function placeOf(name: ServiceName): Place & { readonly name: string } {
  const [namespace = '', short = ''] = name.split('/');
  return { namespace, name: short };
}
