import { createServer, Socket } from 'node:net';
import type { Ip } from '@octoplane/model/address.ts';
import { netnsPath } from './build.ts';
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
export async function relayTo(
  place: Place,
  ip: Ip,
  port: number,
  localPort = 0,
): Promise<{ readonly address: string } & AsyncDisposable> {
  const open = new Set<Socket>();
  const server = createServer((near) => {
    const far = connectFrom(place, ip, port);
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
    server.listen(localPort, '127.0.0.1', resolve);
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
