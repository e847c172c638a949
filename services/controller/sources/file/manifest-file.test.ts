import { formatId } from '@octoplane/model/project.ts';
import { describe, expect, test } from 'vitest';
import { type ManifestFile, readManifestFile } from './manifest-file.ts';

const service = (name: string, port: number | string = 80, extra = ''): string =>
  `apiVersion: v1\nkind: Service\nmetadata:\n  name: ${name}\nspec:\n  ports:\n  - port: ${port}\n${extra}`;

const read = (text: string, before: ManifestFile | null = null, name = 'web.yaml'): ManifestFile =>
  readManifestFile(name, text, 5, before);

const names = (file: ManifestFile): readonly string[] => file.objects.map(({ id }) => formatId(id)).sort();
const told = (file: ManifestFile): readonly string[] =>
  file.rejections.map(({ location, reason }) => `${location} ${reason}`);

describe('documents', () => {
  test('several in a file, each with its place', () => {
    const file = read(`# two\n---\n${service('a')}---\n# nothing\n---\n\n${service('b')}`);
    expect(names(file)).toEqual(['Service default/a', 'Service default/b']);
    expect(file.objects.map(({ object }) => (object.kind === 'Service' ? object.service.meta : null))).toMatchObject([
      { revision: 'web.yaml:3', changedAtUs: 5 },
      { revision: 'web.yaml:14' },
    ]);
  });

  test('in Lists, of YAML and of JSON', () => {
    const items = ['a', 'b'].map((name) => ({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name },
      spec: { ports: [{ port: 80 }] },
    }));
    const list = JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
    expect(names(read(list, null, 'web.json'))).toEqual(['Service default/a', 'Service default/b']);
    expect(names(read(list))).toEqual(['Service default/a', 'Service default/b']);
  });

  test('that did not change are the same objects, and so are items of a List', () => {
    const first = read(`${service('a')}---\n${service('b')}`);
    const second = read(`${service('new')}---\n${service('a')}---\n${service('b', 81)}`, first);
    expect(second.objects[1]?.object).toBe(first.objects[0]?.object);
    expect(second.objects[2]?.object).not.toBe(first.objects[1]?.object);
    const list = (ports: readonly number[]): string =>
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'List',
        items: ports.map((port, i) => ({
          apiVersion: 'v1',
          kind: 'Service',
          metadata: { name: `s${i}` },
          spec: { ports: [{ port }] },
        })),
      });
    const before = read(list([80, 80]), null, 'web.json');
    const after = read(list([80, 81]), before, 'web.json');
    expect(after.objects[0]?.object).toBe(before.objects[0]?.object);
    expect(after.objects[1]?.object).not.toBe(before.objects[1]?.object);
  });

  test('of unknown kinds are remarked once, unknown fields too', () => {
    const text = `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\n${service('a', 80, '  clusterip: x\n')}`;
    const first = read(text);
    expect(first.remarks).toEqual([
      'web.yaml:1:1: v1 ConfigMap is not for a proxy and is ignored',
      'web.yaml:12:3: Service default/a: spec.clusterip: the field is unknown and ignored; check its spelling',
    ]);
    expect(read(text, first).remarks).toEqual([]);
  });

  test('empty files and null documents are no mistake', () => {
    for (const text of ['', '\n', '---\n---\n', '# nothing\n', 'null\n', '\uFEFF'])
      expect(read(text)).toMatchObject({ objects: [], rejections: [] });
    expect(read(' \n', null, 'web.json')).toMatchObject({ objects: [], rejections: [] });
  });
});

describe('what is wrong is named by line and column', () => {
  test.each([
    ['plain YAML', 'web.yaml', service('a', 0), 'web.yaml:7:5'],
    ['a second document', 'web.yaml', `${service('a')}---\n${service('b', 70_000)}`, 'web.yaml:15:5'],
    [
      'YAML of another form',
      'web.yaml',
      '{apiVersion: v1, kind: Service,\n metadata: {name: a}, spec: {ports: [{port: 0}]}}',
      'web.yaml:2:45',
    ],
    [
      'JSON',
      'web.json',
      '{"apiVersion":"v1","kind":"Service",\n "metadata":{"name":"a"},\n "spec":{"ports":[{"port":0}]}}',
      'web.json:3:27',
    ],
    [
      'an item of a JSON List',
      'web.json',
      '{"apiVersion":"v1","kind":"List","items":[\n{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","labels":{"x":"\\"]}"}},"spec":{"ports":[{"port":0}]}}]}',
      'web.json:2:108',
    ],
    ['a torn YAML document', 'web.yaml', 'kind: Service\nmetadata: {name: "a', 'web.yaml:2:20'],
    ['a torn JSON document', 'web.json', '{"kind": "Service",\n "metadata": {', 'web.json:2:15'],
    ['a name that cannot be read', 'web.yaml', 'apiVersion: v1\nkind: Service\nspec: {}\n', 'web.yaml:1:1'],
  ])('%s', (_, name, text, location) => {
    expect(read(text, null, name).rejections[0]?.location).toBe(location);
  });

  test('too many places for a large file are named by their paths', () => {
    const items = Array.from({ length: 3000 }, (_, i) => ({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: `s${i}`, annotations: { padding: 'x'.repeat(100) } },
      spec: { ports: [{ port: 0 }] },
    }));
    const { rejections } = read(JSON.stringify({ apiVersion: 'v1', kind: 'List', items }), null, 'web.json');
    expect(rejections).toHaveLength(3000);
    expect(rejections[0]?.location).toMatch(/^web\.json:1:\d+$/);
    expect(rejections.at(-1)?.location).toBe('web.json:1:1 items[2999].spec.ports[0].port');
  });
});

describe('what was good stays', () => {
  const good = read(`${service('a')}---\n${service('b')}`);

  test('when it is bad now, until it is good or gone', () => {
    const bad = read(`${service('a', 0)}---\n${service('b', 81)}`, good);
    expect(bad.objects.find(({ id }) => id.name === 'default/a')?.object).toBe(good.objects[0]?.object);
    expect(told(bad)).toEqual(['web.yaml:7:5 spec.ports[0].port: 0 is not a port; use a whole number from 1 to 65535']);
    expect(names(read(service('b', 81), bad))).toEqual(['Service default/b']);
  });

  test('when a document does not parse: all that are not found elsewhere', () => {
    const torn = read(`${service('b', 81)}---\nkind: "Serv`, good);
    expect(names(torn)).toEqual(['Service default/a', 'Service default/b']);
    expect(told(torn)).toHaveLength(1);
    const whole = read(`${service('b', 81)}---\n${service('a')}`, torn);
    expect(whole.rejections).toEqual([]);
    // Not a new object either: nothing changed.
    expect(whole.objects.find(({ id }) => id.name === 'default/a')?.object).toBe(good.objects[0]?.object);
  });

  test('when aliases multiply beyond measure', () => {
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [${'*a,'.repeat(10)}]\nc: &c [${'*b,'.repeat(10)}]\nd: [${'*c,'.repeat(10)}]\n`;
    const file = read(bomb, good);
    expect(file.rejections).toHaveLength(1);
    expect(names(file)).toEqual(['Service default/a', 'Service default/b']);
  });
});
