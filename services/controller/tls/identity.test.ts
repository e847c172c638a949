import { expect, test } from 'vitest';
import { identitiesOf } from './identity.ts';

test.each([
  ['a node by URI', { subjectaltname: 'URI:octoplane://node/node-1' }, ['node node-1']],
  [
    'a node among other names',
    { subjectaltname: 'DNS:a.example, URI:octoplane://node/n, IP Address:1.2.3.4' },
    ['node n'],
  ],
  ['a kubelet', { subject: { CN: 'system:node:node-1', O: 'system:nodes' } }, ['node node-1']],
  ['an admin by URI', { subjectaltname: 'URI:octoplane://admin/ann' }, ['admin ann']],
  ['an admin by organisation', { subject: { CN: 'bob', O: ['x', 'octoplane:admins'] } }, ['admin bob']],
  ['nobody', { subject: { CN: 'node-1' }, subjectaltname: 'DNS:octoplane://node/node-1' }, []],
  // What Node makes of one DNS name that tries to look like two names.
  ['a name within a quoted name', { subjectaltname: 'DNS:"a, URI:octoplane://node/node-1"' }, []],
  ['a name after an escaped quote', { subjectaltname: 'DNS:"a\\", URI:octoplane://admin/x, \\"b"' }, []],
])('finds %s', (_what, certificate, expected) => {
  expect(identitiesOf(certificate).map(({ t, name }) => `${t} ${name}`)).toEqual(expected);
});
