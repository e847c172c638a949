import { mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { SourceEvent } from '../source.ts';
import { FileSource } from './file-source.ts';

/** What was told of Services when a revision was said to be reached. */
interface Told {
  readonly revision: number;
  readonly services: ReadonlySet<string>;
}

let dir: string;
let stop: AbortController;
let running: Promise<void>;
const told: Told[] = [];
let onTold: () => void;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'octoplane-revision-'));
  stop = new AbortController();
  told.length = 0;
  onTold = () => undefined;
  const services = new Set<string>();
  const source = new FileSource({ name: 'test', directory: dir, logger: pino({ level: 'silent' }) });
  running = source.run((events: readonly SourceEvent[]) => {
    for (const event of events) {
      if (event.t === 'upserted' && event.object.kind === 'Service') services.add(event.object.service.name);
      if (event.t === 'removed') services.delete(event.id.name);
      if (event.t === 'synced') told.push({ revision: event.revision, services: new Set(services) });
    }
    onTold();
  }, stop.signal);
});

afterEach(async () => {
  stop.abort();
  await running;
  rmSync(dir, { recursive: true });
});

const put = (name: string) => {
  const spec = { ports: [{ port: 80 }] };
  const text = JSON.stringify({ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'default' }, spec });
  writeFileSync(join(dir, `.${name}.new`), text);
  renameSync(join(dir, `.${name}.new`), join(dir, `${name}.json`));
};

/** As whoever wrote the directory sees it. */
const written = () => Number(statSync(dir, { bigint: true }).mtimeNs / 1000n);

const reached = async (revision: number): Promise<Told> => {
  for (;;) {
    const found = told.find((each) => each.revision >= revision);
    if (found) return found;
    await new Promise<void>((resolve) => {
      onTold = resolve;
    });
  }
};

it('everything that was written up to a revision is told with it, however the writes fall', async () => {
  await reached(written());
  const expected = new Set<string>();
  for (let round = 0; round < 40; round++) {
    const name = `service-${round}`;
    for (const suffix of ['a', 'b', 'c']) {
      put(`${name}-${suffix}`);
      expected.add(`default/${name}-${suffix}`);
      // The reader gets a turn between some of the writes, and stamps a directory that goes on changing.
      if (round % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await reached(written())).services, `round ${round}`).toEqual(expected);
  }
});

it('a removal counts as read when it was told, not when it was suspected', async () => {
  put('stays');
  put('goes');
  await reached(written());
  rmSync(join(dir, 'goes.json'));
  expect((await reached(written())).services).toEqual(new Set(['default/stays']));
});
