import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import { type BindAddress, formatBindAddress } from '../options.ts';
import { StartError } from '../start-error.ts';

/** An HTTP server that somebody must close. */
export interface HttpService {
  readonly address: BindAddress;
  close(): Promise<void>;
}

/** @throws the system's error: EADDRINUSE, EACCES, EADDRNOTAVAIL */
export async function listenHttp(address: BindAddress, handler: RequestListener): Promise<HttpService> {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000, maxHeaderSize: 8192 }, handler);
  const listening = Promise.withResolvers<void>();
  server.once('error', listening.reject);
  server.listen(
    { host: address.host, port: address.port, ipv6Only: isIPv6(address.host) && address.host !== '::' },
    listening.resolve,
  );
  await listening.promise;
  const { port } = server.address() as AddressInfo;
  return { address: { host: address.host, port }, close: () => close(server) };
}

/** As listenHttp, for an address that the user chose. @throws StartError that names the flag */
export async function listenHttpAtStart(
  address: BindAddress,
  flag: string,
  handler: RequestListener,
): Promise<HttpService> {
  try {
    return await listenHttp(address, handler);
  } catch (error) {
    const where = formatBindAddress(address);
    if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')
      throw new StartError(
        'PORT_IN_USE',
        `${where} is in use by another program (kube-proxy, or another Octoplane node?): end that, or pass another ${flag}`,
        error,
      );
    throw new StartError(
      'PORT_IN_USE',
      `cannot listen on ${where} (${error instanceof Error ? error.message : String(error)}): pass another ${flag}`,
      error,
    );
  }
}

function close(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeAllConnections();
  return promise;
}
