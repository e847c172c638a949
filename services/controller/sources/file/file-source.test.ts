import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, stat, symlink, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ClusterObject } from '@octoplane/model/objects.ts';
import { formatId, idOf } from '@octoplane/model/project.ts';
import pino from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../clock.ts';
import { type Rejection, SourceError, type SourceEvent } from '../source.ts';
import { FileSource } from './file-source.ts';

let root = '';
let directory = '';
let stop = new AbortController();
let running: Promise<void> | null = null;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), `octoplane-files-${process.pid}-`));
  directory = join(root, 'manifests');
  await mkdir(directory);
  stop = new AbortController();
  running = null;
});

afterEach(async () => {
  stop.abort();
  await running;
  await rm(root, { recursive: true });
});

/** What a cluster state would hold, and a way to wait for it by events. */
class Listener {
  readonly objects = new Map<string, ClusterObject>();
  readonly rejections = new Map<string, Rejection>();
  /** "synced", or why not. */
  condition = 'syncing';
  revision = 0;
  incarnation = '';
  readonly log: string[] = [];
  #waiting: { readonly done: () => boolean; readonly resolve: () => void } | null = null;

  take(events: readonly SourceEvent[]): void {
    for (const event of events) this.#take(event);
    if (this.#waiting?.done()) this.#waiting.resolve();
  }

  async until(done: () => boolean): Promise<void> {
    if (done()) return;
    await new Promise<void>((resolve) => {
      this.#waiting = { done, resolve };
    });
  }

  get names(): readonly string[] {
    return [...this.objects.keys()].sort();
  }

  get reasons(): readonly string[] {
    return Array.from(this.rejections.values(), ({ location, reason }) => `${location}: ${reason}`);
  }

  #take(event: SourceEvent): void {
    switch (event.t) {
      case 'upserted':
        this.log.push(`+ ${formatId(idOf(event.object))}`);
        this.objects.set(formatId(idOf(event.object)), event.object);
        return;
      case 'removed':
        this.log.push(`- ${formatId(event.id)}`);
        expect(this.objects.delete(formatId(event.id))).toBe(true);
        return;
      case 'rejected':
        this.rejections.set(event.rejection.place, event.rejection);
        return;
      case 'cleared':
        expect(this.rejections.delete(event.place)).toBe(true);
        return;
      case 'stale':
        this.condition = event.reason;
        return;
      case 'synced':
        expect(event.revision).toBeGreaterThanOrEqual(this.revision);
        this.condition = 'synced';
        this.revision = event.revision;
        this.incarnation = event.incarnation;
    }
  }
}

/** Short waits are real; the hold of a loss ends when the test says so. */
class HoldClock {
  readonly nowUs = systemClock.nowUs;
  #held: (() => void) | null = null;

  after(ms: number, callback: () => void): () => void {
    if (ms < 1000) return systemClock.after(ms, callback);
    this.#held = callback;
    return () => {
      this.#held = null;
    };
  }

  get holding(): boolean {
    return this.#held !== null;
  }

  endHold(): void {
    this.#held?.();
  }
}

const clock = new HoldClock();

async function started(settleMs?: number): Promise<Listener> {
  const listener = new Listener();
  const source = new FileSource({
    name: 'files',
    directory,
    logger: pino({ level: 'silent' }),
    clock,
    ...(settleMs === undefined ? {} : { settleMs }),
  });
  running = source.run((events) => listener.take(events), stop.signal);
  await Promise.race([running, listener.until(() => listener.condition !== 'syncing')]);
  return listener;
}

const service = (name: string, port = 80): string =>
  `apiVersion: v1\nkind: Service\nmetadata:\n  name: ${name}\nspec:\n  ports:\n  - port: ${port}\n`;

const write = (name: string, text: string): Promise<void> => writeFile(join(directory, name), text);

async function replace(name: string, text: string): Promise<void> {
  await writeFile(join(root, 'new'), text);
  await rename(join(root, 'new'), join(directory, name));
}

const portOf = (listener: Listener, name: string): number | undefined => {
  const object = listener.objects.get(`Service default/${name}`);
  return object?.kind === 'Service' ? object.service.ports[0]?.port : undefined;
};

describe('files that come, change and go', () => {
  test('are read at the start, in sync even when there are none', async () => {
    const listener = await started();
    expect(listener).toMatchObject({ condition: 'synced', names: [], incarnation: directory });
  });

  test('by rename', async () => {
    await write('a.yaml', `${service('a')}---\n${service('b')}`);
    const listener = await started();
    expect(listener.names).toEqual(['Service default/a', 'Service default/b']);
    await replace('a.yaml', `${service('a', 81)}---\n${service('b')}`);
    await listener.until(() => portOf(listener, 'a') === 81);
    expect(listener.log).toEqual(['+ Service default/a', '+ Service default/b', '+ Service default/a']);
  });

  test('written in place, and new ones', async () => {
    await write('a.yaml', service('a'));
    const listener = await started();
    await write('a.yaml', service('a', 81));
    await write('b.json', JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' } }));
    await listener.until(() => portOf(listener, 'a') === 81 && listener.objects.has('Node n1'));
  });

  test('deleted, in a small directory at once', async () => {
    await write('a.yaml', service('a'));
    await write('b.yaml', service('b'));
    const listener = await started();
    await unlink(join(directory, 'a.yaml'));
    await listener.until(() => !listener.objects.has('Service default/a'));
    await unlink(join(directory, 'b.yaml'));
    await listener.until(() => listener.objects.size === 0);
    expect(listener.condition).toBe('synced');
  });

  test('put in place after their old version was deleted: nothing flaps', async () => {
    await write('a.yaml', service('a'));
    const listener = await started(900);
    await unlink(join(directory, 'a.yaml'));
    await replace('a.yaml', service('a', 81));
    await listener.until(() => portOf(listener, 'a') === 81);
    expect(listener.log).toEqual(['+ Service default/a', '+ Service default/a']);
  });

  test('other names, hidden files, directories and pipes are left alone', async () => {
    await write('readme.txt', 'x: [');
    await write('.a.yaml.swp', 'x: [');
    await mkdir(join(directory, 'sub.yaml'));
    execFileSync('mkfifo', [join(directory, 'pipe.yaml')]);
    await write('a.yml', service('a'));
    const listener = await started();
    expect(listener).toMatchObject({ names: ['Service default/a'], reasons: [] });
  });

  test('through the links of a ConfigMap volume', async () => {
    await mkdir(join(directory, '..v1'));
    await writeFile(join(directory, '..v1', 'a.yaml'), service('a'));
    await symlink('..v1', join(directory, '..data'));
    await symlink('..data/a.yaml', join(directory, 'a.yaml'));
    const listener = await started();
    expect(portOf(listener, 'a')).toBe(80);
    await mkdir(join(directory, '..v2'));
    await writeFile(join(directory, '..v2', 'a.yaml'), service('a', 81));
    await symlink('..v2', join(directory, '..data_tmp'));
    await rename(join(directory, '..data_tmp'), join(directory, '..data'));
    await listener.until(() => portOf(listener, 'a') === 81);
  });
});

describe('bad files', () => {
  test('a torn write keeps what was there, and is reported until it is whole', async () => {
    await write('a.yaml', `${service('a')}---\n${service('b')}`);
    const listener = await started();
    await write('a.yaml', `${service('a', 81)}---\napiVersion: "v`);
    await listener.until(() => listener.rejections.size > 0);
    expect(listener.names).toEqual(['Service default/a', 'Service default/b']);
    expect(listener.reasons[0]).toMatch(/^a\.yaml:9:\d+: .*stays until then$/);
    await write('a.yaml', `${service('a', 81)}---\n${service('b', 82)}`);
    await listener.until(() => listener.rejections.size === 0);
    expect(portOf(listener, 'b')).toBe(82);
  });

  test('a bad object is refused alone', async () => {
    await write('a.yaml', `${service('a', 0)}---\n${service('b')}`);
    const listener = await started();
    expect(listener).toMatchObject({
      names: ['Service default/b'],
      reasons: ['a.yaml:7:5: spec.ports[0].port: 0 is not a port; use a whole number from 1 to 65535'],
    });
    await unlink(join(directory, 'a.yaml'));
    await listener.until(() => listener.rejections.size === 0);
  });

  test('an object in two files is taken from the first by name', async () => {
    await write('b.yaml', service('a', 82));
    const listener = await started();
    await replace('a.yaml', service('a', 81));
    await listener.until(() => portOf(listener, 'a') === 81);
    expect(listener.reasons).toEqual(['b.yaml: a.yaml has it too and comes first; remove one of them']);
    await unlink(join(directory, 'a.yaml'));
    await listener.until(() => portOf(listener, 'a') === 82);
    expect(listener.reasons).toEqual([]);
  });

  test('a link that leads nowhere is no file yet, and one that leads to itself is refused', async () => {
    await symlink('loop.yaml', join(directory, 'loop.yaml'));
    await symlink('absent', join(directory, 'absent.yaml'));
    await write('a.yaml', service('a'));
    const listener = await started();
    expect(listener).toMatchObject({
      condition: 'synced',
      names: ['Service default/a'],
      reasons: ['loop.yaml: the link leads to itself; let it lead to a file'],
    });
  });

  test('a file of 50 MB is refused, and what it said before stays', async () => {
    await write('a.yaml', service('a'));
    const listener = await started();
    await truncate(join(directory, 'a.yaml'), 50_000_000);
    await listener.until(() => listener.rejections.size === 1);
    expect(listener).toMatchObject({
      names: ['Service default/a'],
      reasons: ['a.yaml: the file has 47.7 MiB; split it into files of at most 32 MiB'],
    });
    await unlink(join(directory, 'a.yaml'));
    await listener.until(() => listener.objects.size === 0);
    expect(listener.reasons).toEqual([]);
  });
});

describe('the directory', () => {
  test('must be there at the start', async () => {
    directory = join(root, 'absent');
    await expect(started()).rejects.toThrow(
      new SourceError('DIRECTORY_MISSING', `the source directory ${directory} does not exist; create it`),
    );
    running = null;
    await write('../file', '');
    directory = join(root, 'file');
    await expect(started()).rejects.toMatchObject({ code: 'NOT_A_DIRECTORY' });
    running = null;
  });

  test('deleted: everything stays, until it is back', async () => {
    await write('a.yaml', service('a'));
    await write('b.yaml', service('b'));
    const listener = await started(900);
    await rm(directory, { recursive: true });
    await listener.until(() => listener.condition !== 'synced');
    expect(listener.condition).toBe(`${directory} is gone; create it again; what it said is kept`);
    expect(listener.names).toEqual(['Service default/a', 'Service default/b']);
    // Made aside and moved into place, as a checkout or a mount would be: an empty one for a moment is another test.
    await mkdir(join(root, 'next'));
    await writeFile(join(root, 'next', 'b.yaml'), service('b', 81));
    await rename(join(root, 'next'), directory);
    await listener.until(() => listener.condition === 'synced' && portOf(listener, 'b') === 81);
    await listener.until(() => !listener.objects.has('Service default/a'));
    await replace('c.yaml', service('c'));
    await listener.until(() => listener.objects.has('Service default/c'));
  });

  test('its parent deleted and made again', async () => {
    directory = join(root, 'deep', 'manifests');
    await mkdir(directory, { recursive: true });
    await write('a.yaml', service('a'));
    const listener = await started(900);
    await rm(join(root, 'deep'), { recursive: true });
    await listener.until(() => listener.condition !== 'synced');
    await mkdir(join(root, 'deep'));
    await mkdir(join(root, 'next'));
    await writeFile(join(root, 'next', 'a.yaml'), service('a', 81));
    await rename(join(root, 'next'), directory);
    await listener.until(() => portOf(listener, 'a') === 81);
  });

  test('replaced by a link to another one: another incarnation', async () => {
    const link = join(root, 'link');
    await mkdir(join(root, 'one'));
    await mkdir(join(root, 'two'));
    await writeFile(join(root, 'one', 'a.yaml'), service('a'));
    await writeFile(join(root, 'two', 'a.yaml'), service('a', 81));
    await symlink('one', link);
    directory = link;
    const listener = await started();
    expect(listener.incarnation).toBe(join(root, 'one'));
    await symlink('two', join(root, 'link2'));
    await rename(join(root, 'link2'), link);
    await listener.until(() => portOf(listener, 'a') === 81);
    expect(listener.incarnation).toBe(join(root, 'two'));
  });
});

describe('most of it gone at once', () => {
  const many = (from: number, to: number): string =>
    Array.from({ length: to - from }, (_, i) => service(`s${from + i}`)).join('---\n');

  async function emptied(): Promise<Listener> {
    await write('a.yaml', many(0, 40));
    await write('b.yaml', service('b'));
    const listener = await started();
    await replace('a.yaml', '');
    await listener.until(() => listener.condition !== 'synced');
    expect(listener.condition).toBe(
      '40 of 41 Services and 0 of 0 endpoints are gone at once; they are kept for 10 s in case they come back',
    );
    expect(listener.objects.size).toBe(41);
    return listener;
  }

  test('is held back, while everything else goes on, and believed when it lasts', async () => {
    const listener = await emptied();
    await replace('b.yaml', service('b', 81));
    await listener.until(() => portOf(listener, 'b') === 81);
    expect(listener.objects.size).toBe(41);
    clock.endHold();
    await listener.until(() => listener.condition === 'synced');
    expect(listener.names).toEqual(['Service default/b']);
    expect(clock.holding).toBe(false);
  });

  test('is forgotten when it comes back', async () => {
    const listener = await emptied();
    await replace('a.yaml', many(0, 39));
    await listener.until(() => listener.condition === 'synced');
    expect(listener.objects.size).toBe(40);
    expect(listener.log.filter((line) => line.startsWith('-'))).toEqual(['- Service default/s39']);
    expect(clock.holding).toBe(false);
  });
});

test('whatever happens to the files, what is told is what is there', async () => {
  const listener = await started(5);
  const expected = new Map<string, number>();
  // A fixed sequence of pseudo-random operations: the same in every run.
  let seed = 42;
  const random = (below: number): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((seed / 2 ** 31) * below);
  };
  for (let round = 1; round <= 150; round++) {
    const name = `f${random(4)}.yaml`;
    const what = random(5);
    if (what === 0) {
      await rm(join(directory, name), { force: true });
      expected.delete(name);
    } else if (what === 1) {
      await write(name, `kind: "torn ${round}`);
    } else {
      const text = service(name.slice(0, 2), round);
      expected.set(name, round);
      if (what === 2) await write(name, text);
      else await replace(name, text);
    }
    // A torn file keeps what it had, if it had anything: make it whole before comparing.
    if (round % 10 !== 0) continue;
    for (const [file, port] of expected) await replace(file, service(file.slice(0, 2), port));
    for (const file of ['f0.yaml', 'f1.yaml', 'f2.yaml', 'f3.yaml'])
      if (!expected.has(file)) await rm(join(directory, file), { force: true });
    await listener.until(
      () =>
        listener.objects.size === expected.size &&
        [...expected].every(([file, port]) => portOf(listener, file.slice(0, 2)) === port) &&
        listener.rejections.size === 0,
    );
  }
  expect(listener.condition).toBe('synced');
});

test('with a revision, everything that changed up to it has been told', async () => {
  const written: { readonly name: string; readonly changedAtUs: number }[] = [];
  const broken: string[] = [];
  const listener = new Listener();
  const source = new FileSource({ name: 'files', directory, logger: pino({ level: 'silent' }) });
  running = source.run((events) => {
    listener.take(events);
    for (const { name, changedAtUs } of written)
      if (changedAtUs <= listener.revision && !listener.objects.has(`Service default/${name}`))
        broken.push(`${name} of ${changedAtUs} at ${listener.revision}`);
  }, stop.signal);
  for (let i = 0; i < 300; i++) {
    const name = `svc-${i}`;
    const path = join(directory, `${name}.json`);
    const manifest = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace: 'default', name },
      spec: { clusterIP: `10.96.1.${i % 250}`, ports: [{ port: 1_000 + i }] },
    };
    await writeFile(join(root, 'next'), JSON.stringify(manifest));
    await rename(join(root, 'next'), path);
    written.push({ name, changedAtUs: Number((await stat(path, { bigint: true })).ctimeNs / 1000n) });
  }
  const newest = Math.max(...written.map(({ changedAtUs }) => changedAtUs));
  await listener.until(() => listener.revision >= newest);
  expect(broken).toEqual([]);
});
