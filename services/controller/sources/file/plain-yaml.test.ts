import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseDocument, stringify } from 'yaml';
import { syntheticManifests } from '../../../../test/support/synthetic.ts';
import { type Places, parsePlainYaml } from './plain-yaml.ts';

/** What the full parser reads; undefined where it finds a mistake. */
function full(text: string): unknown {
  const document = parseDocument(text, { prettyErrors: false });
  return document.errors.length > 0 ? undefined : JSON.parse(JSON.stringify(document.toJS()) ?? 'null');
}

describe('where it answers, the full parser reads the same', () => {
  const scalar = fc.constantFrom(
    ...['80', '0', '007', '0x1f', '0o7', '1e3', '1.5', '-1', '1_000', '12345678901234567890', '80:90'],
    ...['true', 'True', 'yes', 'no', 'null', 'Null', '~', 'TCP', 'a b', 'a: b', 'a:b', 'a #b', 'a#b', '# c', "it's"],
    ...[
      '10.96.0.1',
      '10.96.0.0/12',
      '1.2.3',
      'fd00:96::1',
      '::1',
      'fd00::',
      '::',
      'fd00:96::/108',
      'ab:cd',
      '12:34:56',
    ],
    ...[
      '"x"',
      '"a: b"',
      '"a\\n"',
      '"',
      "''",
      "'a''b'",
      '{}',
      '[]',
      '{a: 1}',
      '[1, 2]',
      '|',
      '>-',
      '&a x',
      '*a',
      '!!str 1',
    ],
    ...[
      '2026-11-23T04:00:00Z',
      '2026-11-23',
      '.inf',
      '-',
      '- x',
      '- - x',
      'x:',
      '? x',
      '@x',
      '`x',
      '%x',
      'x ',
      '<<',
      '',
    ],
  );
  const key = fc.constantFrom(
    'a',
    'b',
    'name',
    'kubernetes.io/service-name',
    'null',
    'true',
    'x-y',
    '1',
    '"q"',
    '<<',
    '__proto__',
  );
  const line = fc.oneof(
    { weight: 5, arbitrary: fc.tuple(key, scalar).map(([k, v]) => `${k}: ${v}`) },
    { weight: 3, arbitrary: key.map((k) => `${k}:`) },
    { weight: 3, arbitrary: fc.tuple(key, scalar).map(([k, v]) => `- ${k}: ${v}`) },
    { weight: 2, arbitrary: scalar.map((v) => `- ${v}`) },
    { weight: 1, arbitrary: fc.constantFrom('-', '', '# comment', '...', '---', '\ta: 1', 'a:1', '-  a: 1', '-   b:') },
    { weight: 1, arbitrary: scalar },
  );
  const text = fc
    .array(fc.tuple(fc.constantFrom(0, 0, 1, 2, 2, 4, 6), line), { maxLength: 10 })
    .map((lines) => lines.map(([indent, rest]) => `${' '.repeat(indent)}${rest}`).join('\n'));

  test('lines thrown together', () => {
    fc.assert(
      fc.property(text, (yaml) => {
        const plain = parsePlainYaml(yaml);
        if (plain !== undefined) expect(plain).toEqual(full(yaml));
      }),
      { numRuns: 20_000 },
    );
  });

  test('manifests with a line lost, doubled or pushed aside', () => {
    const manifests = [
      ...syntheticManifests({
        services: 2,
        endpoints: 2,
        dualStack: true,
        hints: () => ({ forZones: [{ name: 'a' }] }),
      }),
    ];
    const sources = manifests.map((manifest) => stringify(manifest));
    fc.assert(
      fc.property(
        fc.constantFrom(...sources),
        fc.nat(),
        fc.constantFrom('lose', 'double', 'push', 'cut'),
        (source, at, how) => {
          const lines = source.split('\n');
          const index = at % lines.length;
          const own = lines[index] ?? '';
          const instead = { lose: [], double: [own, own], push: [` ${own}`], cut: [own.slice(0, own.length >> 1)] }[
            how
          ];
          const yaml = lines.toSpliced(index, how === 'cut' ? lines.length : 1, ...instead).join('\n');
          const plain = parsePlainYaml(yaml);
          if (plain !== undefined) expect(plain).toEqual(full(yaml));
        },
      ),
      { numRuns: 2000 },
    );
  });
});

test('it reads what tools write', () => {
  for (const manifest of syntheticManifests({ services: 3, endpoints: 3, dualStack: true })) {
    const yaml = stringify(manifest);
    expect(parsePlainYaml(yaml)).toEqual(manifest);
    expect(parsePlainYaml(yaml.replaceAll('\n', '\r\n'))).toEqual(manifest);
    // kubectl puts lists at the indent of their key.
    expect(parsePlainYaml(stringify(manifest, { indentSeq: false }))).toEqual(manifest);
  }
});

test('places of values', () => {
  const places: Places = new Map();
  const value = parsePlainYaml('kind: Service\nspec:\n  ports:\n  - name: http\n    port: 0\n', places);
  const at = (collection: unknown, key: string | number) =>
    typeof collection === 'object' && collection !== null ? places.get(collection)?.get(key) : undefined;
  expect(at(value, 'spec')).toEqual({ line: 1, column: 0 });
  expect(value).toMatchObject({ spec: { ports: [{ port: 0 }] } });
  const [, , item] = [...places.keys()].filter((collection) => !Array.isArray(collection));
  expect(at(item, 'port')).toEqual({ line: 4, column: 4 });
});
