import { idOf, metaOf } from '@octoplane/model/project.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Fault, KubeApiServer } from '../../../../test/support/kube-api/kube-api-server.ts';
import { kubeSystem, node, service, slice } from '../../../../test/support/kube-api/manifests.ts';
import { expired } from '../../../../test/support/kube-api/status.ts';
import type { Change, Collection, Stored } from '../../../../test/support/kube-api/store.ts';
import { KubeWatcher } from '../../../../test/support/kube-api/watcher.ts';
import { collections } from '../etcd/layout.ts';
import type { SourceEvent } from '../source.ts';
import type { KubernetesSourceOptions } from './kubernetes-source.ts';
import { parts } from './watched.ts';

/** What somebody writes, what befalls the server, and what befalls the next requests. */
type Step =
  | { readonly t: 'write'; readonly part: (typeof parts)[number]; readonly name: number; readonly value: number | null }
  | {
      readonly t: 'watches';
      readonly what: 'end' | 'destroy' | 'cutNext' | 'endNext' | 'repeat' | 'silence' | 'gone';
      readonly of: (typeof parts)[number];
    }
  | { readonly t: 'compact' | 'restart' | 'bookmark' | 'settle' }
  | { readonly t: 'upgrade'; readonly watchList: boolean; readonly goneAs: 'status' | 'event' }
  | { readonly t: 'requests'; readonly fault: Fault; readonly count: number };

const part = fc.constantFrom(...parts);
const write: fc.Arbitrary<Step> = fc.record({
  t: fc.constant('write'),
  part,
  name: fc.nat(5),
  value: fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 1, max: 200 }) }, fc.constant(null)),
});
const fault: fc.Arbitrary<Fault> = fc.oneof(
  fc.record({ t: fc.constant('status'), code: fc.constantFrom(429, 500, 503), retryAfterSeconds: fc.constant(0.01) }),
  fc.constantFrom<Fault>({ t: 'status', code: 410 }, { t: 'reset' }, { t: 'silent' }),
  fc.record({ t: fc.constant('cut'), at: fc.double({ min: 0, max: 0.99, noNaN: true }) }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: write },
  fc.record({
    t: fc.constant('watches'),
    what: fc.constantFrom('end', 'destroy', 'cutNext', 'endNext', 'repeat', 'silence', 'gone'),
    of: part,
  }),
  fc.constantFrom<Step>({ t: 'compact' }, { t: 'restart' }, { t: 'bookmark' }, { t: 'settle' }),
  fc.record({ t: fc.constant('upgrade'), watchList: fc.boolean(), goneAs: fc.constantFrom('status', 'event') }),
  fc.record({ t: fc.constant('requests'), fault, count: fc.integer({ min: 1, max: 4 }) }),
);

const noLossGuard = { services: Infinity, endpoints: Infinity };
const impatient = { client: { silentMs: 60 }, reflector: { silentMs: 60, pageSize: 2 }, lossGuard: noLossGuard };

/** A server, everything that was ever written to it, and the source that watches it. */
class Story implements AsyncDisposable {
  readonly server: KubeApiServer;
  readonly watcher: KubeWatcher;
  /** By key, as the source names objects. */
  readonly history = new Map<string, Change[]>();
  #faults: Fault[] = [];
  #written: { readonly collection: Collection; readonly key: string }[] = [];

  private constructor(server: KubeApiServer, options: Partial<KubernetesSourceOptions>) {
    this.server = server;
    for (const name of parts)
      server.store.collection(server.resource(name)).listeners.add((change) => {
        const key = `${name}${change.after.key.startsWith('/') ? '' : '/'}${change.after.key}`;
        this.history.set(key, [...(this.history.get(key) ?? []), change]);
        this.#written.push({ collection: server.store.collection(server.resource(name)), key: change.after.key });
      });
    server.options = { ...server.options, fault: () => this.#faults.shift() ?? null };
    this.watcher = new KubeWatcher(server, options);
  }

  static async begin(pieceBytes: number | null, options: Partial<KubernetesSourceOptions> = impatient): Promise<Story> {
    const server = await KubeApiServer.start({ pieceBytes: () => pieceBytes });
    server.put('namespaces', kubeSystem('uid-east'));
    return new Story(server, options);
  }

  async play(steps: readonly Step[]): Promise<void> {
    for (const one of steps) await this.#act(one);
    this.#faults = [];
    await this.settle();
  }

  /** Everything that is there has been told, as it is. What was written since the last time is looked at first: it says no sooner. */
  async settle(): Promise<void> {
    const isTold = (stored: Stored, kind: string): boolean => {
      const object = this.watcher.objects.get(`${kind} ${stored.key.replace(/^\//, '')}`);
      return object !== undefined && metaOf(object).revision === String(stored.revision);
    };
    const isCurrent = (collection: Collection, key: string): boolean => {
      const stored = collection.get(key);
      return stored === null || isTold(stored, collection.resource.kind);
    };
    const collections = parts.map((name) => this.server.store.collection(this.server.resource(name)));
    await this.watcher.until(({ objects, synced, stale }) => {
      const size = collections.reduce((sum, collection) => sum + collection.size, 0);
      if (synced === null || stale !== null || objects.size !== size) return false;
      if (!this.#written.every(({ collection, key }) => isCurrent(collection, key))) return false;
      return collections.every((collection) =>
        collection.all().every((stored) => isTold(stored, collection.resource.kind)),
      );
    });
    this.#written = [];
  }

  /** No duplicate, no going back, and no flap: what is removed was deleted, and what comes again was created again. */
  check(): void {
    const told = new Map<string, SourceEvent[]>();
    for (const event of this.watcher.events) {
      const key = keyOfEvent(event);
      if (key !== null) told.set(key, [...(told.get(key) ?? []), event]);
    }
    for (const [key, events] of told) {
      const changes = this.history.get(key) ?? [];
      let at = 0;
      for (const event of events) {
        if (event.t === 'upserted') {
          const revision = Number(metaOf(event.object).revision);
          expect(revision, `${key} was told twice, or went back`).toBeGreaterThan(at);
          expect(changes.some((change) => change.revision === revision && !change.deleted)).toBe(true);
          at = revision;
        } else if (event.t === 'removed') {
          const upTo = Number(event.revision);
          const deleted = changes.find((change) => change.deleted && change.revision > at && change.revision <= upTo);
          expect(deleted, `${key} was removed, and not deleted`).toBeDefined();
          at = deleted?.revision ?? at;
        }
      }
    }
    expect(this.server.complaints).toEqual([]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.watcher[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }

  async #act(step: Step): Promise<void> {
    const { server } = this;
    switch (step.t) {
      case 'write':
        this.#write(step);
        break;
      case 'watches':
        for (const watch of [...server.watches].filter(({ collection }) => collection.resource.plural === step.of)) {
          if (step.what === 'gone') watch.fail(expired(1, 2));
          else watch[step.what]();
        }
        break;
      case 'compact':
        server.store.compact();
        break;
      case 'bookmark':
        server.bookmark();
        break;
      case 'restart':
        await server.kill();
        await server.listen();
        break;
      case 'upgrade':
        server.options = { ...server.options, watchList: step.watchList, goneAs: step.goneAs };
        break;
      case 'requests':
        this.#faults = Array.from({ length: step.count }, () => step.fault);
        break;
      case 'settle':
        await this.settle();
    }
    await new Promise((resolve) => setImmediate(resolve));
  }

  #write({ part, name, value }: Step & { readonly t: 'write' }): void {
    const called = `o-${name}`;
    if (value === null)
      this.server.remove(
        part,
        part === 'nodes' ? `/${called}` : `default/${called}${part === 'endpointslices' ? '-1' : ''}`,
      );
    else if (part === 'services') this.server.put(part, service(called, value));
    else if (part === 'endpointslices') this.server.put(part, slice(called, `10.244.1.${value}`));
    else this.server.put(part, node(called, `zone-${value}`));
  }
}

function keyOfEvent(event: SourceEvent): string | null {
  if (event.t !== 'removed' && event.t !== 'upserted') return null;
  const { kind, name } = event.t === 'removed' ? event.id : idOf(event.object);
  return `${collections[kind]}/${name}`;
}

test('whatever befalls the server: no update is lost, none is told twice, and nothing flaps', async () => {
  const story = fc.tuple(fc.array(step, { minLength: 10, maxLength: 60 }), fc.constantFrom(null, 1, 37));
  await fc.assert(
    fc.asyncProperty(story, async ([steps, pieceBytes]) => {
      await using told = await Story.begin(pieceBytes);
      await told.play(steps);
      told.check();
    }),
    { numRuns: 40 },
  );
});

test('10,000 Services and 100,000 EndpointSlices, interrupted while they are listed and while they change', async () => {
  await using story = await Story.begin(null, { lossGuard: noLossGuard });
  const { server, watcher } = story;
  for (let i = 0; i < 10_000; i++) server.put('services', service(`s-${i}`));
  for (let i = 0; i < 100_000; i++)
    server.put('endpointslices', slice(`s-${i % 10_000}-${i}`, `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`));
  await story.play([
    { t: 'settle' },
    { t: 'restart' },
    ...Array.from(
      { length: 300 },
      (_, i): Step => ({ t: 'write', part: parts[i % 3] ?? 'nodes', name: i % 40, value: (i % 200) + 1 }),
    ),
    { t: 'compact' },
    { t: 'watches', what: 'cutNext', of: 'endpointslices' },
    { t: 'write', part: 'endpointslices', name: 1, value: 9 },
    { t: 'upgrade', watchList: false, goneAs: 'status' },
    { t: 'watches', what: 'gone', of: 'endpointslices' },
    { t: 'requests', fault: { t: 'cut', at: 0.5 }, count: 2 },
  ]);
  expect(watcher.objects.size).toBeGreaterThan(110_000);
  story.check();
  // Some 10 s of CPU; a machine that is shared takes its time.
}, 240_000);
