import type { ClusterObject } from '@octoplane/model/objects.ts';
import { formatId, type ObjectId } from '@octoplane/model/project.ts';
import type { Rejection } from '../source.ts';
import type { ManifestFile } from './manifest-file.ts';

interface Claim {
  readonly file: string;
  readonly index: number;
  readonly id: ObjectId;
  readonly object: ClusterObject;
}

export interface DirectoryDiff {
  readonly upserted: readonly ClusterObject[];
  readonly removed: readonly ObjectId[];
  readonly rejected: readonly Rejection[];
  /** Places of rejections that are over. */
  readonly cleared: readonly string[];
}

/**
 * All files of the directory put together, and what was told of them so far. Pure: it is given files, and answers with the
 * difference between what was told and what is. An object in two files is taken from the one whose name comes first.
 */
export class DirectoryState {
  readonly #files = new Map<string, ManifestFile>();
  readonly #claims = new Map<string, Claim[]>();
  readonly #told = new Map<string, { readonly id: ObjectId; readonly object: ClusterObject }>();
  readonly #toldRejections = new Map<string, Rejection>();
  /** By the file's name, or an object's. */
  readonly #rejections = new Map<string, readonly Rejection[]>();
  readonly #dirty = new Set<string>();
  readonly #dirtyRejections = new Set<string>();
  #toldServices = 0;
  #toldEndpoints = 0;

  /** What was told and not taken back. */
  get told(): { readonly services: number; readonly endpoints: number } {
    return { services: this.#toldServices, endpoints: this.#toldEndpoints };
  }

  /** Of files that said something, or that something is wrong with. */
  get fileNames(): readonly string[] {
    return [...this.#files.keys(), ...this.#rejections.keys()];
  }

  file(name: string): ManifestFile | null {
    return this.#files.get(name) ?? null;
  }

  put(name: string, file: ManifestFile | null): void {
    for (const { id } of this.#files.get(name)?.objects ?? []) {
      const key = formatId(id);
      const rest = this.#claims.get(key)?.filter((claim) => claim.file !== name) ?? [];
      if (rest.length === 0) this.#claims.delete(key);
      else this.#claims.set(key, rest);
      this.#dirty.add(key);
    }
    file?.objects.forEach(({ id, object }, index) => {
      const key = formatId(id);
      const claims = this.#claims.get(key);
      if (claims) claims.push({ file: name, index, id, object });
      else this.#claims.set(key, [{ file: name, index, id, object }]);
      this.#dirty.add(key);
    });
    if (file === null) this.#files.delete(name);
    else this.#files.set(name, file);
    this.reject(name, file?.rejections ?? []);
  }

  /** Replaces what is wrong with one file, leaving what it said. */
  reject(name: string, rejections: readonly Rejection[]): void {
    for (const { place } of this.#rejections.get(name) ?? []) this.#dirtyRejections.add(place);
    for (const { place } of rejections) this.#dirtyRejections.add(place);
    if (rejections.length === 0) this.#rejections.delete(name);
    else this.#rejections.set(name, rejections);
  }

  /** Objects that were told and are no longer there. */
  missing(): readonly { readonly id: ObjectId; readonly object: ClusterObject }[] {
    return Array.from(this.#dirty).flatMap((key) => {
      const told = this.#told.get(key);
      return told && !this.#claims.has(key) ? [told] : [];
    });
  }

  /** The difference, which counts as told from now on. `hold`: objects that are missing stay, for now. */
  take(hold: boolean): DirectoryDiff {
    const upserted: ClusterObject[] = [];
    const removed: ObjectId[] = [];
    for (const key of this.#dirty) {
      const winner = this.#judge(key);
      const told = this.#told.get(key);
      if (winner === null && hold && told) continue;
      this.#dirty.delete(key);
      if (winner?.object === told?.object) continue;
      if (told) this.#count(told.object, -1);
      if (winner) {
        this.#told.set(key, winner);
        this.#count(winner.object, 1);
        upserted.push(winner.object);
      } else if (told) {
        this.#told.delete(key);
        removed.push(told.id);
      }
    }
    return { upserted, removed, ...this.#takeRejections() };
  }

  #judge(key: string): Claim | null {
    const [winner = null, ...others] = (this.#claims.get(key) ?? []).sort((a, b) =>
      a.file === b.file ? a.index - b.index : a.file < b.file ? -1 : 1,
    );
    this.reject(
      key,
      others.map(({ file, index }) => ({
        place: `${file}#double ${index} ${key}`,
        object: key,
        location: file,
        reason: `${winner?.file ?? ''} has it too and comes first; remove one of them`,
      })),
    );
    return winner;
  }

  #takeRejections(): Pick<DirectoryDiff, 'rejected' | 'cleared'> {
    if (this.#dirtyRejections.size === 0) return { rejected: [], cleared: [] };
    const current = new Map<string, Rejection>();
    for (const list of this.#rejections.values()) for (const rejection of list) current.set(rejection.place, rejection);
    const rejected: Rejection[] = [];
    const cleared: string[] = [];
    for (const place of this.#dirtyRejections) {
      const now = current.get(place);
      const told = this.#toldRejections.get(place);
      if (now && (told?.reason !== now.reason || told.location !== now.location || told.object !== now.object)) {
        rejected.push(now);
        this.#toldRejections.set(place, now);
      } else if (!now && this.#toldRejections.delete(place)) cleared.push(place);
    }
    this.#dirtyRejections.clear();
    return { rejected, cleared };
  }

  #count(object: ClusterObject, by: 1 | -1): void {
    if (object.kind === 'Service') this.#toldServices += by;
    if (object.kind === 'EndpointSlice') this.#toldEndpoints += by * object.slice.endpoints.length;
  }
}
