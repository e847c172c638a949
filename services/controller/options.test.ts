import { describe, expect, test } from 'vitest';
import { type ControllerOptions, isLoopback, validateControllerOptions } from './options.ts';

const options: ControllerOptions = {
  sources: [{ name: 'file', kind: 'file', target: '/manifests' }],
  listen: '127.0.0.1:12090',
  http: '127.0.0.1:12091',
  serviceCidrs: [],
  stateDir: null,
  settleMs: 20_000,
  kubeconfig: null,
  gateClients: [],
  security: { t: 'insecure', allowRemote: false },
  release: 'test',
};

describe('options', () => {
  test('plaintext is refused where others can reach it, unless they may', () => {
    const remote = { ...options, listen: '0.0.0.0:12090' };
    expect(() => validateControllerOptions(options)).not.toThrow();
    expect(() => validateControllerOptions(remote)).toThrow(expect.objectContaining({ code: 'INSECURE_REMOTE' }));
    const allowed = { ...remote, security: { t: 'insecure', allowRemote: true } } as const;
    expect(() => validateControllerOptions(allowed)).not.toThrow();
  });

  test('sources are there, and have names of their own', () => {
    expect(() => validateControllerOptions({ ...options, sources: [] })).toThrow(/--source/);
    const twice = [...options.sources, ...options.sources];
    expect(() => validateControllerOptions({ ...options, sources: twice })).toThrow(/named file/);
  });

  test.each([
    ['127.0.0.1:1', true],
    ['127.9.9.9:1', true],
    ['[::1]:1', true],
    ['localhost:1', true],
    ['unix:/run/x', true],
    ['0.0.0.0:1', false],
    ['[::]:1', false],
    ['10.0.0.1:1', false],
    ['127.0.0.1.example:1', false],
  ])('%s is loopback: %s', (address, expected) => {
    expect(isLoopback(address)).toBe(expected);
  });
});
