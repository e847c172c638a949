import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Evidence } from '../drivers/driver.ts';
import { type HttpService, listenHttp } from './http.ts';
import { infoEndpoints } from './info-endpoints.ts';

describe('/explain', () => {
  const evidence: Evidence = { object: 'map frontends', at: '10.96.0.10 port 80/TCP', says: 'service 7' };
  const known = new Map<ServicePortKey, readonly Evidence[]>([['default/web:80/TCP' as ServicePortKey, [evidence]]]);
  let explain: (key: ServicePortKey) => readonly Evidence[] | null = (key) => known.get(key) ?? [];
  let server: HttpService;
  beforeAll(async () => {
    server = await listenHttp(
      { host: '127.0.0.1', port: 0 },
      infoEndpoints({
        proxyMode: 'ebpf',
        configz: () => ({}),
        metrics: async () => ({ contentType: 'text/plain', text: '' }),
        explain: (key) => explain(key),
        health: (_, response) => response.end(),
      }),
    );
  });
  afterAll(() => server.close());

  async function ask(query: string): Promise<{ status: number; body: unknown }> {
    const response = await fetch(`http://127.0.0.1:${server.address.port}/explain${query}`);
    return { status: response.status, body: await response.json() };
  }

  it('shows what the kernel holds of a service port', async () => {
    const service = 'default/web:80/TCP';
    expect(await ask(`?service=${service}`)).toEqual({
      status: 200,
      body: { driver: 'ebpf', service, evidence: [evidence] },
    });
    expect(await ask('?service=default%2Fother%3A80%2FTCP')).toMatchObject({ status: 200, body: { evidence: [] } });
  });

  it('says so where the driver cannot tell', async () => {
    explain = () => null;
    expect(await ask('?service=default/web:80/TCP')).toMatchObject({ status: 200, body: { evidence: null } });
  });

  it.each(['', '?service=', '?service=web', '?service=default/web:0/TCP'])(
    'refuses "%s" with a hint',
    async (query) => {
      expect(await ask(query)).toMatchObject({
        status: 400,
        body: { error: expect.stringContaining('default/web:80/TCP') },
      });
    },
  );
});
