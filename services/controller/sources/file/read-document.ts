import { hash } from 'node:crypto';
import type { Path } from '@octoplane/model/findings.ts';
import { listItems, type Projection, project } from '@octoplane/model/project.ts';
import { type DocumentText, firstLine, type Place, parse } from './documents.ts';

export interface ReadDocument {
  readonly t: 'read';
  readonly items: readonly ReadItem[];
}

export interface BrokenDocument {
  readonly t: 'broken';
  readonly reason: string;
  readonly place: Place;
}

/** A manifest of a document: the document itself, or an item of a List. */
export interface ReadItem {
  /** Which of the document's values it is in; there is more than one only where "..." ends documents. */
  readonly value: number;
  readonly path: Path;
  /** Of an item's JSON; null for a manifest that is a document of its own. */
  readonly hash: string | null;
  readonly projection: Projection;
}

export interface ReadContext {
  readonly file: string;
  readonly mtimeUs: number;
  /** Items of Lists as they were read before, by their hash. */
  readonly known: ReadonlyMap<string, ReadItem>;
}

export function readDocument(document: DocumentText, context: ReadContext): ReadDocument | BrokenDocument {
  const parsed = parse(document);
  if (parsed.t === 'broken') return parsed;
  const revision = `${context.file}:${document.line + firstLine(document.text)}`;
  const origin = { revision, changedAtUs: context.mtimeUs };
  const items = parsed.values.flatMap((manifest, value): readonly ReadItem[] => {
    // "---" with nothing but null behind it is an empty document, and no mistake.
    if (manifest === null) return [];
    const list = listItems(manifest);
    if (list === null) return [{ value, path: [], hash: null, projection: project(manifest, origin) }];
    return list.map((item, i): ReadItem => {
      const key = hash('sha1', JSON.stringify(item) ?? '');
      const held = context.known.get(key);
      return { value, path: ['items', i], hash: key, projection: held?.projection ?? project(item, origin) };
    });
  });
  return { t: 'read', items };
}
