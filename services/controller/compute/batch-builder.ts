import type { EntryChange } from '@octoplane/model/delta.ts';
import type { NodeName } from '@octoplane/model/keys.ts';
import type { Batch, Cause, ClassId, InputRevision, OverlayChange } from './batch.ts';

/** Gathers the changes of one round. Each (class, key) and (node, key) comes once: every Service is computed once in a round. */
export class BatchBuilder {
  readonly #classes = new Map<ClassId, EntryChange[]>();
  readonly #overlays = new Map<NodeName, OverlayChange[]>();
  readonly #moved: NodeName[] = [];

  get empty(): boolean {
    return this.#classes.size === 0 && this.#overlays.size === 0 && this.#moved.length === 0;
  }

  changeClass(id: ClassId, change: EntryChange): void {
    const changes = this.#classes.get(id);
    if (changes) changes.push(change);
    else this.#classes.set(id, [change]);
  }

  changeOverlay(node: NodeName, change: OverlayChange): void {
    const changes = this.#overlays.get(node);
    if (changes) changes.push(change);
    else this.#overlays.set(node, [change]);
  }

  move(node: NodeName): void {
    this.#moved.push(node);
  }

  build(causes: readonly Cause[], inputs: readonly InputRevision[]): Batch {
    return { classes: this.#classes, overlays: this.#overlays, moved: this.#moved, causes, inputs };
  }
}
