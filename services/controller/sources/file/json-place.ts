import type { Path } from '@octoplane/model/findings.ts';

/**
 * The offset at which the value of a path begins in valid JSON; where the path ends early, that of its nearest parent. One walk over the
 * text, which builds nothing: it is only asked when an object is refused.
 */
export function locateInJson(text: string, path: Path): number {
  let at = skipSpace(text, 0);
  for (const step of path) {
    const found = typeof step === 'number' ? itemAt(text, at, step) : memberAt(text, at, step);
    if (found < 0) return at;
    at = found;
  }
  return at;
}

function itemAt(text: string, at: number, index: number): number {
  if (text[at] !== '[') return -1;
  let next = skipSpace(text, at + 1);
  for (let i = 0; text[next] !== ']' && next < text.length; i++) {
    if (i === index) return next;
    next = skipSpace(text, skipValue(text, next));
    if (text[next] === ',') next = skipSpace(text, next + 1);
  }
  return -1;
}

function memberAt(text: string, at: number, key: string): number {
  if (text[at] !== '{') return -1;
  let next = skipSpace(text, at + 1);
  let found = -1;
  while (text[next] === '"') {
    const end = skipString(text, next);
    const isKey = JSON.parse(text.slice(next, end)) === key;
    const value = skipSpace(text, skipSpace(text, end) + 1);
    // JSON.parse lets the last of several equal keys count.
    if (isKey) found = value;
    next = skipSpace(text, skipValue(text, value));
    if (text[next] === ',') next = skipSpace(text, next + 1);
  }
  return found;
}

function skipValue(text: string, at: number): number {
  const first = text[at];
  if (first === '"') return skipString(text, at);
  if (first !== '{' && first !== '[') {
    let end = at;
    while (end < text.length && !/[,\]}\s]/.test(text[end] ?? '')) end++;
    return end;
  }
  let depth = 0;
  for (let i = at; i < text.length; i++) {
    const character = text[i];
    if (character === '"') i = skipString(text, i) - 1;
    else if (character === '{' || character === '[') depth++;
    else if ((character === '}' || character === ']') && --depth === 0) return i + 1;
  }
  return text.length;
}

function skipString(text: string, at: number): number {
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === '"') return i + 1;
  }
  return text.length;
}

function skipSpace(text: string, at: number): number {
  let i = at;
  while (i < text.length && /\s/.test(text[i] ?? '')) i++;
  return i;
}
