import { describe, expect, test } from 'vitest';
import { readKubeconfig } from './kubeconfig.ts';

const config = (extra: object = {}) =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'east',
    contexts: [
      { name: 'east', context: { cluster: 'east', user: 'anna' } },
      { name: 'west', context: { cluster: 'west', user: 'anna' } },
      { name: 'lost', context: { cluster: 'nowhere', user: 'anna' } },
    ],
    clusters: [
      {
        name: 'east',
        cluster: {
          server: 'https://10.0.0.1:6443/',
          'certificate-authority': 'pki/ca.crt',
          'tls-server-name': 'kubernetes',
        },
      },
      { name: 'west', cluster: { server: 'https://10.0.1.1:6443', 'insecure-skip-tls-verify': true } },
    ],
    users: [{ name: 'anna', user: { tokenFile: 'token', as: 'root', 'as-groups': ['a', 'b'] } }],
    ...extra,
  });

const file = (path: string, text: string) => ({ path, text });

test('the current context, with its files relative to the kubeconfig', () => {
  expect(readKubeconfig([file('/etc/k/config', config())], '')).toMatchObject({
    name: 'east',
    server: 'https://10.0.0.1:6443',
    ca: { t: 'file', path: '/etc/k/pki/ca.crt' },
    servername: 'kubernetes',
    unverified: false,
    user: {
      tokenFile: '/etc/k/token',
      impersonate: { 'Impersonate-User': ['root'], 'Impersonate-Group': ['a', 'b'] },
    },
  });
});

test('another context by its name', () => {
  const west = readKubeconfig([file('/c', config())], 'west');
  expect(west).toMatchObject({ server: 'https://10.0.1.1:6443', unverified: true });
});

test('of several files the first that has an entry counts', () => {
  const other = config({
    'current-context': 'other',
    clusters: [{ name: 'east', cluster: { server: 'https://10.9.9.9:6443' } }],
    contexts: [{ name: 'third', context: { cluster: 'east', user: 'anna' } }],
  });
  const files = [file('/a', config()), file('/b', other)];
  expect(readKubeconfig(files, '').name).toBe('east');
  expect(readKubeconfig(files, 'third').server).toBe('https://10.0.0.1:6443');
});

test('a plugin runs from beside its kubeconfig, and data wins over a file', () => {
  const pem = Buffer.from('PEM').toString('base64');
  const exec = {
    apiVersion: 'client.authentication.k8s.io/v1',
    command: './bin/login',
    args: ['--for', 'east'],
    env: [{ name: 'REGION', value: 'eu' }],
    provideClusterInfo: true,
  };
  const users = [{ name: 'anna', user: { exec, 'client-certificate-data': pem, 'client-certificate': 'x.crt' } }];
  const { user } = readKubeconfig([file('/etc/k/config', config({ users }))], '');
  expect(user.cert).toEqual({ t: 'data', pem: 'PEM' });
  expect(user.exec).toMatchObject({
    command: '/etc/k/bin/login',
    args: ['--for', 'east'],
    env: { REGION: 'eu' },
    cluster: { server: 'https://10.0.0.1:6443/' },
  });
});

describe('what cannot be used is said with what to do', () => {
  const users = (user: object) => config({ users: [{ name: 'anna', user }] });
  test.each([
    ['no such context', config(), 'north', /\/c has no context north; it has east, west, lost/],
    ['no current context', config({ 'current-context': '' }), '', /no current-context; name one/],
    ['a cluster that is not there', config(), 'lost', /names cluster nowhere, which is not there/],
    ['not YAML', '{"a', '', /\/c is not YAML/],
    ['not a mapping', '[]', '', /is not a kubeconfig/],
    ['a section of another kind', config({ users: {} }), '', /users: .* stands where a list belongs/],
    ['auth-provider', users({ 'auth-provider': { name: 'oidc' } }), '', /use exec with a credential plugin/],
    ['an old plugin', users({ exec: { command: 'x', apiVersion: 'v1alpha1' } }), '', /use client.authentication/],
    [
      'a server that is no URL',
      config({ clusters: [{ name: 'east', cluster: { server: '10.0.0.1:6443' } }] }),
      '',
      /server of cluster east is no URL such as/,
    ],
    [
      'a SOCKS proxy',
      config({ clusters: [{ name: 'east', cluster: { server: 'https://a', 'proxy-url': 'socks5://b' } }] }),
      '',
      /other kinds are not supported/,
    ],
  ])('%s', (_, text, context, reason) => {
    expect(() => readKubeconfig([file('/c', text)], context)).toThrow(reason);
  });
});
