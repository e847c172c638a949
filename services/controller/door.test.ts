import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Client, credentials, ServerCredentials } from '@grpc/grpc-js';
import { HealthImplementation, service } from 'grpc-health-check';
import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/stub-nodes/manual-clock.ts';
import { Door, type DoorLimits } from './door.ts';
import { listen, newGrpcServer } from './grpc-server.ts';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function open(limits: Partial<DoorLimits>) {
  const clock = new ManualClock();
  const refused: string[] = [];
  const log: Record<string, unknown>[] = [];
  const logger = pino({ base: null }, { write: (line: string) => log.push(JSON.parse(line)) });
  const door = new Door({
    clock,
    logger,
    onRefused: (why) => refused.push(why),
    limits: { isExempt: () => false, ...limits },
  });
  const server = newGrpcServer(door);
  new HealthImplementation({ '': 'SERVING' }).addToServer(server);
  const port = await listen(server, '127.0.0.1:0', ServerCredentials.createInsecure(), door);
  closing.push(() => {
    door.close();
    server.forceShutdown();
  });
  return { door, clock, refused, log, port };
}

/** A connection that is open, and when it was closed by the other side. */
async function knock(port: number): Promise<{ readonly socket: Socket; readonly closed: Promise<unknown> }> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  const closed = once(socket, 'close');
  await once(socket, 'connect');
  socket.resume();
  closing.push(() => socket.destroy());
  return { socket, closed };
}

const arrived = (door: Door, count: number) => expect.poll(() => door.waiting).toBe(count);

function ask(port: number): Promise<unknown> {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  closing.push(() => client.close());
  const check = service['Check'];
  if (!check) throw new Error('the health service has no Check');
  const { path, requestSerialize, responseDeserialize } = check;
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, { service: '' }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}

test('who asks something stays; who is silent is closed after its time, and one line says so', async () => {
  const { door, clock, refused, log, port } = await open({ silentMs: 1_000 });
  const silent = await Promise.all([knock(port), knock(port), knock(port)]);
  await arrived(door, 3);
  await ask(port);
  expect(door.waiting).toBe(3);
  clock.advance(999);
  expect(refused).toEqual([]);
  clock.advance(1);
  await Promise.all(silent.map(({ closed }) => closed));
  expect({ refused, waiting: door.waiting }).toEqual({ refused: ['silent', 'silent', 'silent'], waiting: 0 });
  expect(log).toMatchObject([{ why: 'silent', address: expect.stringContaining('127.0.0.1'), refused: 1 }]);
});

test('an address has so many places, and others have theirs', async () => {
  const { door, refused, port } = await open({ perAddress: 2, isExempt: (address) => address === 'nobody' });
  const first = await Promise.all([knock(port), knock(port)]);
  await arrived(door, 2);
  await (await knock(port)).closed;
  expect(refused).toEqual(['address']);
  first[0].socket.destroy();
  await arrived(door, 1);
  await expect(ask(port)).resolves.toMatchObject({ status: 'SERVING' });
});

test('there are so many places in all, also for those who are exempt', async () => {
  const { door, refused, port } = await open({ inAll: 2, isExempt: () => true });
  await Promise.all([knock(port), knock(port)]);
  await arrived(door, 2);
  await (await knock(port)).closed;
  expect(refused).toEqual(['all']);
});
