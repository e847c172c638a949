import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { Registry } from 'prom-client';
import { afterEach, expect, test } from 'vitest';
import { httpServer } from './http-server.ts';

const cleanUps: (() => unknown)[] = [];
afterEach(() => {
  for (const cleanUp of cleanUps.splice(0)) cleanUp();
});

async function serve() {
  const server = httpServer({ whyNotReady: () => null }, new Registry(), { serve: () => false });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  cleanUps.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  /** What comes back for bytes as they are, to the end of the connection. */
  const send = (bytes: string) => {
    const socket = connect(port, '127.0.0.1', () => socket.end(bytes));
    return text(socket);
  };
  return { server, send };
}

const request = (target: string) => `GET ${target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`;

test('a target that is no URL is refused, and the next question is answered', async () => {
  const { send } = await serve();
  for (const target of ['//', 'http://', '/\\', '//:0'])
    expect(await send(request(target)), target).toMatch(/^HTTP\/1\.1 (400|404) /);
  expect(await send(request('/livez'))).toMatch(/^HTTP\/1\.1 200 /);
});

test('who asks nothing is not waited for as long as Node would', async () => {
  const { server } = await serve();
  expect(server.headersTimeout).toBeLessThanOrEqual(10_000);
});
