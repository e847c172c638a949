import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serviceName } from '@octoplane/model/keys.ts';
import pino from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Allocation } from './allocator.ts';
import { AllocationBook, formatAllocations, parseAllocations } from './book.ts';

const logger = pino({ level: 'silent' });
const web: Allocation = {
  clusterIps: ['10.96.3.4', 'fd00:96::7'],
  nodePorts: { '80/TCP': 30_123 },
  healthCheckNodePort: 0,
};
const allocations = new Map([[serviceName('default', 'web'), web]]);

let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'octoplane-book-'));
});
afterEach(() => rm(directory, { recursive: true }));

test('what was saved is there after a restart', async () => {
  const book = await AllocationBook.open(join(directory, 'state'), logger);
  expect(book.allocations.size).toBe(0);
  book.save(new Map());
  book.save(allocations);
  await book.flushed();
  expect((await AllocationBook.open(join(directory, 'state'), logger)).allocations).toEqual(allocations);
  expect(await readdir(join(directory, 'state'))).toEqual(['allocations.json']);
});

test('a damaged file is put aside', async () => {
  await writeFile(join(directory, 'allocations.json'), formatAllocations(allocations).slice(0, -10));
  expect((await AllocationBook.open(directory, logger)).allocations.size).toBe(0);
  expect(await readFile(join(directory, 'allocations.json.bad'), 'utf8')).not.toBe('');
});

test.each([
  ['[]'],
  ['{"version":2,"services":{}}'],
  ['{"version":1,"services":{"default/web":{"clusterIps":["10.96.0.300"],"nodePorts":{},"healthCheckNodePort":0}}}'],
  ['{"version":1,"services":{"default/web":{"clusterIps":[],"nodePorts":{"80":1},"healthCheckNodePort":0}}}'],
])('%s is not believed', (text) => {
  expect(parseAllocations(text)).toBeNull();
});
