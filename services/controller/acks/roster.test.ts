import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeName } from '@octoplane/model/keys.ts';
import pino from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { formatRoster, parseRoster, Roster } from './roster.ts';
import { bookOf } from './testing/book.ts';

const logger = pino({ level: 'silent' });

let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'octoplane-roster-'));
});
afterEach(() => rm(directory, { recursive: true }));

test('who was there, who had left and who is forgotten outlives the controller, and its going away is no leaving', async () => {
  const { book, clock, node, nodes, leave } = bookOf();
  const roster = await Roster.open(directory, clock, logger);
  expect(roster.entries).toEqual([]);
  roster.follow(book);
  leave(node(1));
  book.forget(node(2));
  const leftAtMs = clock.nowUs() / 1000;
  const closed = roster.close();
  for (const record of nodes) leave(record);
  await closed;
  clock.advance(5000);
  const { entries } = await Roster.open(directory, clock, logger);
  expect(entries).toHaveLength(10);
  expect(entries.find(({ name }) => name === 'node-0')).toEqual({ name: 'node-0', zone: 'a', leftAtMs: null });
  expect(entries.find(({ name }) => name === 'node-1')).toEqual({ name: 'node-1', zone: 'a', leftAtMs });
});

test('is on disk a second after a node came, for a controller that is killed', async () => {
  const { book, clock, join: joins } = bookOf();
  const roster = await Roster.open(directory, clock, logger);
  roster.follow(book);
  joins(nodeName('node-11'), 'b');
  clock.advance(1000);
  await roster.close();
  expect(await readFile(join(directory, 'roster.json'), 'utf8')).toContain('"node-11":{"zone":"b","leftAtMs":null}');
});

test('a damaged file is put aside', async () => {
  await writeFile(join(directory, 'roster.json'), '{"version":1,"nodes":{"node-1":{"zone":"a"');
  const { entries } = await Roster.open(directory, bookOf().clock, logger);
  expect(entries).toEqual([]);
  expect(await readFile(join(directory, 'roster.json.bad'), 'utf8')).not.toBe('');
});

test.each([
  ['[]'],
  ['{"version":2,"nodes":{}}'],
  ['{"version":1,"nodes":{"a":{"zone":1,"leftAtMs":null}}}'],
  ['{"version":1,"nodes":{"a":{"zone":"","leftAtMs":"yesterday"}}}'],
])('%s is not believed', (text) => {
  expect(parseRoster(text)).toBeNull();
});

test('what is written is read', () => {
  const entries = [{ name: nodeName('a'), zone: '', leftAtMs: 5 }];
  expect(parseRoster(formatRoster(entries))).toEqual(entries);
});
