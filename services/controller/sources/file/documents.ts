import type { Path } from '@octoplane/model/findings.ts';
import { LineCounter, parseAllDocuments, parseDocument } from 'yaml';
import { locateInJson } from './json-place.ts';
import { type Places, parsePlainYaml } from './plain-yaml.ts';

/** One document of a file, as text. */
export interface DocumentText {
  readonly text: string;
  /** 0-based line of the file on which it begins. */
  readonly line: number;
  readonly format: 'yaml' | 'json';
}

export type Parsed =
  | { readonly t: 'values'; readonly values: readonly unknown[] }
  | { readonly t: 'broken'; readonly reason: string; readonly place: Place };

/** 1-based, in the file. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/** "---" at the beginning of a line is a document's end wherever it stands, even in a block scalar (YAML 1.2, 9.1.2). */
const separator = /^---(?:[ \t]*(?:\r?\n|$)|(?=[ \t]))/gm;

/** Cuts a file into its documents, so that only those that changed need be parsed. Documents without content are left out. */
export function splitDocuments(fileText: string, format: 'yaml' | 'json'): readonly DocumentText[] {
  const text = fileText.charCodeAt(0) === 0xfeff ? fileText.slice(1) : fileText;
  if (format === 'json') return text.trim() === '' ? [] : [{ text, line: 0, format }];
  const documents: DocumentText[] = [];
  let begin = 0;
  let line = 0;
  const add = (end: number): void => {
    const chunk = text.slice(begin, end);
    if (/^[ \t]*[^\s#]/m.test(chunk)) documents.push({ text: chunk, line, format });
    line += countLines(chunk);
  };
  // The marker's own line is left out, so that a document is the same text wherever it stands.
  for (const { 0: marker, index } of text.matchAll(separator)) {
    add(index);
    line += countLines(marker);
    begin = index + marker.length;
  }
  add(text.length);
  return documents;
}

export function parse(document: DocumentText): Parsed {
  return document.format === 'json' ? parseJson(document) : parseYaml(document);
}

function parseJson(document: DocumentText): Parsed {
  try {
    return { t: 'values', values: [JSON.parse(document.text)] };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    // V8 names the offset, or the line and column, in its message alone.
    const at = /at position (\d+)/.exec(reason)?.[1];
    const offset = at === undefined ? document.text.trimEnd().length : Number(at);
    return { t: 'broken', reason: reason.split(' in JSON')[0] ?? reason, place: placeOfOffset(document, offset) };
  }
}

function parseYaml(document: DocumentText): Parsed {
  const plain = parsePlainYaml(document.text);
  if (plain !== undefined) return { t: 'values', values: [plain] };
  const lineCounter = new LineCounter();
  const parsed = parseAllDocuments(document.text, { lineCounter, prettyErrors: false });
  const documents = 'empty' in parsed ? [] : parsed;
  for (const { errors } of documents) {
    const error = errors[0];
    if (!error) continue;
    const { line, col } = lineCounter.linePos(error.pos[0]);
    return { t: 'broken', reason: error.message, place: { line: document.line + line, column: col } };
  }
  try {
    // Through JSON, so that no value keeps the text of the file alive, and none is of a type that JSON does not have.
    const values = documents.map((doc): unknown =>
      JSON.parse(JSON.stringify(doc.toJS({ maxAliasCount: 100 })) ?? 'null'),
    );
    return { t: 'values', values };
  } catch (error) {
    // Aliases that multiply beyond measure ("billion laughs").
    const reason = error instanceof Error ? error.message : String(error);
    return { t: 'broken', reason, place: { line: document.line + firstLine(document.text), column: 1 } };
  }
}

/** Where a path within one of the values stands in the file; where the path ends early, its nearest parent. */
export function locate(document: DocumentText, value: number, path: Path): Place {
  if (document.format === 'json') return placeOfOffset(document, locateInJson(document.text, path));
  const places: Places = new Map();
  const plain = parsePlainYaml(document.text, places);
  if (plain !== undefined) return locateInPlain(document, plain, places, path);
  const lineCounter = new LineCounter();
  const parsed = parseAllDocuments(document.text, { lineCounter, prettyErrors: false });
  const doc = ('empty' in parsed ? [] : parsed)[value] ?? parseDocument('');
  for (let length = path.length; length >= 0; length--) {
    const node = length === 0 ? doc.contents : doc.getIn(path.slice(0, length), true);
    if (typeof node !== 'object' || node === null || !('range' in node) || !Array.isArray(node.range)) continue;
    const { line, col } = lineCounter.linePos(Number(node.range[0]));
    return { line: document.line + line, column: col };
  }
  return { line: document.line + 1, column: 1 };
}

function locateInPlain(document: DocumentText, root: unknown, places: Places, path: Path): Place {
  let value: unknown = root;
  let place: Place = { line: document.line + firstLine(document.text), column: 1 };
  for (const step of path) {
    const found = typeof value === 'object' && value !== null ? places.get(value)?.get(step) : undefined;
    if (found === undefined) break;
    place = { line: document.line + found.line + 1, column: found.column + 1 };
    value = Object(value)[step];
  }
  return place;
}

/** 1-based line, within the text, of the first content. */
export function firstLine(text: string): number {
  const content = /^[ \t]*[^\s#]/m.exec(text);
  return 1 + countLines(text.slice(0, content?.index ?? 0));
}

function placeOfOffset(document: DocumentText, offset: number): Place {
  const before = document.text.slice(0, offset);
  return { line: document.line + countLines(before) + 1, column: offset - before.lastIndexOf('\n') };
}

function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines++;
  return lines;
}
