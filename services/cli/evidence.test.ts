import { type HttpService, listenHttp } from '@octoplane/node/health/http.ts';
import { infoEndpoints } from '@octoplane/node/health/info-endpoints.ts';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeEvidence, readEvidence } from './evidence.ts';

const evidence = { object: 'map frontends', at: '10.96.0.10 port 80/TCP', says: 'service 7' };
let node: HttpService;
beforeAll(async () => {
  node = await listenHttp(
    { host: '127.0.0.1', port: 0 },
    infoEndpoints({
      proxyMode: 'ebpf',
      configz: () => ({}),
      metrics: async () => ({ contentType: 'text/plain', text: '' }),
      explain: (key) => (key.includes('web') ? [evidence] : []),
      health: (_, response) => response.end(),
    }),
  );
});
afterAll(() => node.close());

it('asks a node for every port, and shows what its kernel holds', async () => {
  const url = `http://127.0.0.1:${node.address.port}`;
  const ports = await readEvidence(url, ['default/web:80/TCP', 'default/none:80/UDP']);
  expect(describeEvidence(ports)).toBe(`
default/web:80/TCP in the kernel, by ebpf
  OBJECT         AT                      SAYS
  map frontends  10.96.0.10 port 80/TCP  service 7

default/none:80/UDP: nothing in the kernel, by ebpf
`);
  expect(describeEvidence([{ driver: 'nftables', service: 'default/web:80/TCP', evidence: null }])).toContain(
    'the nftables driver does not show its objects',
  );
});

it('says which address it takes when nobody is there', async () => {
  await expect(readEvidence('http://127.0.0.1:1', ['default/web:80/TCP'])).rejects.toThrow(
    /no node tells at http:\/\/127.0.0.1:1 what its kernel holds .*--metrics-bind-address/,
  );
});
