import { connect, createServer, type Server, Socket } from 'node:net';
import type { Ip } from '@octoplane/model/address.ts';
import { netnsPath } from './build.ts';
import type { Lab } from './lab.ts';
import { closeOnFailure, connectSocket, ipProtocols, openSocket, socketTypes } from './libc.ts';
import type { Place } from './plan.ts';

/** A TCP connection of this process that starts at a place of the lab. */
export function connectFrom(place: Place, ip: Ip, port: number): Socket {
  const fd = openSocket(netnsPath(place.netns), ip.includes(':') ? 6 : 4, socketTypes.stream, ipProtocols.any);
  closeOnFailure(fd, () => connectSocket(fd, ip, port));
  return new Socket({ fd, readable: true, writable: true });
}

/**
 * A port on this machine's own loopback that leads to an address inside the lab, for clients that take HOST:PORT only
 * (gRPC). Connections start at `place`.
 */
export const relayTo = (place: Place, ip: Ip, port: number, localPort = 0): Promise<Relay> =>
  relay(
    () => connectFrom(place, ip, port),
    (server, done) => server.listen(localPort, '127.0.0.1', done),
  );

/** The other way around: a port at a place of the lab, on all its addresses, that leads to this machine's own loopback. */
export const relayOutOf = (lab: Pick<Lab, 'within'>, place: string, port: number): Promise<Relay> =>
  relay(
    () => connect(port, '127.0.0.1'),
    // Without a name to look up, the socket is made at once, and so in that place.
    (server, done) => lab.within(place, () => server.listen(done)),
  );

export type Relay = { readonly address: string } & AsyncDisposable;

async function relay(reach: () => Socket, listen: (server: Server, done: () => void) => void): Promise<Relay> {
  const open = new Set<Socket>();
  const server = createServer((near) => {
    const far = reach();
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(socket);
      socket.pipe(other);
      // Whatever ends one side ends the other; the client sees a closed connection, as it would without the relay.
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        open.delete(socket);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    listen(server, resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the relay has no port');
  return {
    address: `127.0.0.1:${address.port}`,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
