import { expect, test } from 'vitest';
import { sources } from './controller.ts';

test('sources are named by their kind unless they say otherwise', () => {
  const first = sources('file:/etc/octoplane', undefined);
  expect(sources('east=etcd:http://a:2379,http://b:2379', first)).toEqual([
    { name: 'file', kind: 'file', target: '/etc/octoplane' },
    { name: 'east', kind: 'etcd', target: 'http://a:2379,http://b:2379' },
  ]);
});

test('a kubernetes source may leave the context to the kubeconfig', () => {
  expect(sources('kubernetes:', undefined)).toEqual([{ name: 'kubernetes', kind: 'kubernetes', target: '' }]);
});

test.each(['', 'dir', 'file:', 'ftp:x', 'Name=file:x', '=file:x'])('%j is refused', (text) => {
  expect(() => sources(text, undefined)).toThrow('Write [NAME=]file:DIR');
});
