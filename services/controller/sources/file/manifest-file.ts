import { hash } from 'node:crypto';
import { formatProblem } from '@octoplane/model/findings.ts';
import type { ClusterObject } from '@octoplane/model/objects.ts';
import { formatId, idOf, type ObjectId } from '@octoplane/model/project.ts';
import type { Rejection } from '../source.ts';
import { splitDocuments } from './documents.ts';
import { Locator } from './locator.ts';
import { type ReadDocument, type ReadItem, readDocument } from './read-document.ts';

/** An object of a file. */
export interface FileObject {
  readonly id: ObjectId;
  readonly object: ClusterObject;
}

/** What a file says, and what it said before that it can no longer be understood to say. */
export interface ManifestFile {
  readonly name: string;
  /** In the order of the file: of two with one name the first counts. */
  readonly objects: readonly FileObject[];
  readonly rejections: readonly Rejection[];
  /** Things worth a line in the log, of documents that were not there before. */
  readonly remarks: readonly string[];
  /** By the hash of their text: what need not be read again. */
  readonly documents: ReadonlyMap<string, ReadDocument>;
  /** While a document does not parse: those of the last time when all did, for when they are back. */
  readonly lastSound: ReadonlyMap<string, ReadDocument> | null;
}

/**
 * Reads the text of one file.
 *
 *   1. A document whose text is as before is not parsed again and yields the very same objects; so do unchanged items of a List.
 *   2. A bad object keeps what it said when it was last good, as long as it is in the file.
 *   3. A document that does not parse, or whose name cannot be read, may be any of those that the file had: all that
 *      are not found elsewhere in the file stay until it parses again or the file is gone.
 *
 * @param mtimeUs of the file: when its new objects changed, where they do not say so themselves.
 */
export function readManifestFile(
  name: string,
  text: string,
  mtimeUs: number,
  before: ManifestFile | null,
): ManifestFile {
  const reading = new Reading(name, before);
  const known = knownItems(before);
  for (const document of splitDocuments(text, name.endsWith('.json') ? 'json' : 'yaml')) {
    const key = hash('sha1', document.text);
    const held = before?.documents.get(key) ?? before?.lastSound?.get(key);
    const read = held ?? readDocument(document, { file: name, mtimeUs, known });
    const locator = reading.locator.of(document);
    if (read.t === 'broken') {
      const { line, column } = read.place;
      reading.rejectDocument(`${name}:${line}:${column}`, `${read.reason}; ${putRight}`);
      continue;
    }
    reading.documents.set(key, read);
    for (const item of read.items)
      reading.take(item, (path) => locator(item.value, [...item.path, ...path]), held === undefined);
  }
  return reading.result();
}

const putRight = 'put the document right; what the file said before stays until then';

class Reading {
  readonly locator: Locator;
  readonly documents = new Map<string, ReadDocument>();
  readonly #name: string;
  readonly #before: ManifestFile | null;
  readonly #objects: FileObject[] = [];
  readonly #rejections: Rejection[] = [];
  readonly #remarks: string[] = [];
  /** Good ones, and bad ones whose name could be read. */
  readonly #good = new Set<string>();
  readonly #bad = new Set<string>();
  #nameless = false;
  #broken = false;

  constructor(name: string, before: ManifestFile | null) {
    this.#name = name;
    this.#before = before;
    this.locator = new Locator(name);
  }

  take(item: ReadItem, locate: (path: readonly (string | number)[]) => string, isNew: boolean): void {
    const { projection } = item;
    switch (projection.t) {
      case 'object': {
        const id = idOf(projection.object);
        this.#objects.push({ id, object: projection.object });
        this.#good.add(formatId(id));
        if (!isNew) return;
        for (const warning of projection.warnings)
          this.#remarks.push(`${locate(warning.path)}: ${formatId(id)}: ${formatProblem(warning)}`);
        return;
      }
      case 'refused':
        this.reject(
          projection.id,
          locate(projection.problems[0]?.path ?? []),
          projection.problems.map(formatProblem).join('; '),
        );
        return;
      case 'foreign':
        if (isNew) this.#remarks.push(`${locate([])}: ${projection.what} is not for a proxy and is ignored`);
    }
  }

  rejectDocument(location: string, reason: string): void {
    this.#broken = true;
    this.reject(null, location, reason);
  }

  reject(id: ObjectId | null, location: string, reason: string): void {
    if (id) this.#bad.add(formatId(id));
    else this.#nameless = true;
    this.#rejections.push({
      place: `${this.#name}#${this.#rejections.length}`,
      object: id ? formatId(id) : this.#name,
      location,
      reason,
    });
  }

  result(): ManifestFile {
    const kept = (this.#before?.objects ?? []).filter(({ id }) => {
      const text = formatId(id);
      return !this.#good.has(text) && (this.#nameless || this.#bad.has(text));
    });
    return {
      name: this.#name,
      objects: kept.length === 0 ? this.#objects : [...this.#objects, ...kept],
      rejections: this.#rejections,
      remarks: this.#remarks,
      documents: this.documents,
      lastSound: this.#broken ? (this.#before?.lastSound ?? this.#before?.documents ?? null) : null,
    };
  }
}

/** Items of Lists by the hash of their JSON. */
function knownItems(before: ManifestFile | null): ReadonlyMap<string, ReadItem> {
  const known = new Map<string, ReadItem>();
  const documents = [...(before?.lastSound?.values() ?? []), ...(before?.documents.values() ?? [])];
  for (const { items } of documents) for (const item of items) if (item.hash !== null) known.set(item.hash, item);
  return known;
}
