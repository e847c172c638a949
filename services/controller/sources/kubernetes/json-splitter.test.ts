import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { JsonSplitter } from './json-splitter.ts';

/** Cuts the text into chunks of the given lengths, over and over. */
function chunksOf(text: string, lengths: readonly number[]): Buffer[] {
  const bytes = Buffer.from(text);
  const chunks: Buffer[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = lengths[i % lengths.length] ?? 1;
    chunks.push(Buffer.from(bytes.subarray(at, at + length)));
    at += length;
  }
  return chunks;
}

function split(of: 'values' | 'items', text: string, lengths: readonly number[], maxBytes?: number) {
  const values: unknown[] = [];
  const splitter = new JsonSplitter({
    of,
    onValue: (json) => values.push(JSON.parse(json.toString('utf8'))),
    ...(maxBytes === undefined ? {} : { maxBytes }),
  });
  for (const chunk of chunksOf(text, lengths)) {
    splitter.push(chunk);
    // Chunks are the socket's own again: nothing may be read from them later.
    chunk.fill(0x7b);
  }
  return { values, splitter };
}

const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });
const json = fc.jsonValue({ maxDepth: 4 }).map((value) => JSON.parse(JSON.stringify(value)) as unknown);
const object = fc.dictionary(fc.string(), json, { noNullPrototype: true });
const spaces = fc.constantFrom('', '\n', ' \r\n\t');

describe('wherever the chunks begin and end', () => {
  test('the values of a stream are those that were written', () => {
    fc.assert(
      fc.property(fc.array(object), lengths, spaces, (objects, cuts, space) => {
        const text = objects.map((value) => JSON.stringify(value) + space).join('');
        expect(split('values', text, cuts).values).toEqual(objects);
      }),
    );
  });

  test('a list falls apart into its items and itself, whatever stands before and behind them', () => {
    fc.assert(
      fc.property(object, fc.array(object), object, lengths, fc.boolean(), (before, items, behind, cuts, pretty) => {
        const { items: _, ...head } = before;
        const list = { ...head, items, ...Object.fromEntries(Object.entries(behind).map(([k, v]) => [`z${k}`, v])) };
        const { values, splitter } = split('items', JSON.stringify(list, null, pretty ? 2 : 0), cuts);
        expect(values).toEqual(items);
        expect(splitter.envelope()).toEqual({ ...list, items: [] });
      }),
    );
  });
});

test('items that are deeper, or not at the top, are none', () => {
  const list = { metadata: { items: [{ a: 1 }] }, items: [{ items: [{ b: 2 }] }], other: [{ c: 3 }] };
  const { values, splitter } = split('items', JSON.stringify(list), [7]);
  expect(values).toEqual([{ items: [{ b: 2 }] }]);
  expect(splitter.envelope()).toEqual({ ...list, items: [] });
});

test('a list without items, as Go writes an empty one', () => {
  const { values, splitter } = split('items', '{"metadata":{"resourceVersion":"7"},"items":null}', [5]);
  expect(values).toEqual([]);
  expect(splitter.envelope()).toEqual({ metadata: { resourceVersion: '7' }, items: null });
});

describe('what is not well formed is not taken for something else', () => {
  test('an object that is cut off is never given out', () => {
    expect(split('values', '{"a":1}{"b":"}', [3]).values).toEqual([{ a: 1 }]);
  });
  test('a list that is cut off has no envelope', () => {
    const { splitter } = split('items', '{"items":[{"a":1},{"b"', [4]);
    expect(() => splitter.envelope()).toThrow(/ends in its middle/);
  });
  test.each([
    ['a page of a proxy', '<html>busy</html>', /no object stands between/],
    ['a text', '"a"', /no object stands between/],
    ['a bracket too many', '{"a":1}}', /never opened/],
  ])('%s', (_, text, reason) => {
    expect(() => split('values', text, [100])).toThrow(reason);
  });
  test('a value that is too long', () => {
    expect(() => split('values', JSON.stringify({ a: 'x'.repeat(200) }), [10], 100)).toThrow(/more than 100 bytes/);
  });
});
