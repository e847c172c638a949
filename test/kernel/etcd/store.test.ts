import { EtcdStore } from '@octoplane/controller/sources/etcd/etcd-store.ts';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EtcdServer } from './etcd-server.ts';
import { service, Writer } from './writer.ts';

let server: EtcdServer;
beforeAll(async () => {
  server = await EtcdServer.start();
});
afterAll(() => server[Symbol.asyncDispose]());

const signal = new AbortController().signal;
const cidrs = [{ ip: '10.96.0.0', length: 28 }] as const;
const nodePortService = (name: string) => {
  const plain = service(name);
  return { ...plain, spec: { ...plain.spec, type: 'NodePort' } };
};

interface Written {
  readonly spec: { readonly clusterIP: string; readonly ports: readonly { readonly nodePort: number }[] };
}
const specs = async (store: EtcdStore) =>
  (await store.list('Service', signal)).map(({ manifest }) => (manifest as unknown as Written).spec);

test('ten writers at once never get the same address or port, and what is deleted is free again', async () => {
  const writers = Array.from({ length: 10 }, () => new Writer(server.url));
  // No clock decides anything: theirs are hours apart.
  const stores = writers.map(
    ({ client }, i) => new EtcdStore(client, [...cidrs], () => Date.now() + (i - 5) * 3_600_000),
  );
  const [first] = stores;
  if (!first) throw new Error('no store');
  const step = fc.record({ name: fc.integer({ min: 0, max: 11 }), remove: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(step, { minLength: 1, maxLength: 4 }), { minLength: 10, maxLength: 10 }),
      async (plans) => {
        await Promise.all(
          plans.map(async (steps, i) => {
            const store = stores[i] ?? first;
            for (const { name, remove } of steps) {
              if (remove) await store.delete({ kind: 'Service', name: `default/s-${name}` }, signal);
              else await store.apply(nodePortService(`s-${name}`), signal);
            }
          }),
        );
        const all = await specs(first);
        const taken = [
          ...all.map(({ clusterIP }) => clusterIP),
          ...all.flatMap(({ ports }) => ports.map((p) => p.nodePort)),
        ];
        expect(taken).not.toContain(undefined);
        expect(new Set(taken).size).toBe(taken.length);
      },
    ),
    { numRuns: 8 },
  );
  for (let i = 0; i < 15; i++) await first.delete({ kind: 'Service', name: `default/s-${i}` }, signal);
  const [range] = [await writers[0]?.allocations()];
  expect(range).toEqual([]);
  for (const writer of writers) writer[Symbol.dispose]();
});

test('a Service keeps what it was given; a named address of another is refused with its holder', async () => {
  using writer = new Writer(server.url);
  const store = new EtcdStore(writer.client, [...cidrs], () => Date.now());
  expect(await store.apply(nodePortService('a'), signal)).toBe('created');
  const [given] = await specs(store);
  expect(await store.apply(nodePortService('a'), signal)).toBe('unchanged');
  const other = service('b');
  const stolen = { ...other, spec: { ...other.spec, clusterIP: given?.clusterIP } };
  // Nor does it help to claim an older creation, by a clock that was moved back.
  const early = new EtcdStore(writer.client, [...cidrs], () => 0);
  for (const thief of [store, early])
    await expect(thief.apply(stolen, signal)).rejects.toThrow(
      `cluster IP ${given?.clusterIP} belongs to Service default/a`,
    );
});
